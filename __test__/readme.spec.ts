import { execFile } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import test from 'ava'
import { root } from './helpers.js'

const run = promisify(execFile)
const examples = [...readFileSync(join(root, 'README.md'), 'utf8').matchAll(/^```js\n(.*?)^```$/gms)].map(
  (m) => m[1] ?? '',
)

/** A line of output that each example must have, in the order of the README. */
const expected = [
  /^The capital of France is Paris\.$/m,
  /promptTokens/,
  /^TimeoutError$/m,
  /^Realm Tiny llama Q8_0 512 /m,
  /^ time$/m,
  /^true$/m,
  /^true \[\] \d+$/m,
]

/** A folder in which the package is installed, as in a user's project. */
function project(): string {
  const folder = mkdtempSync(join(tmpdir(), 'realm-node-readme-'))
  mkdirSync(join(folder, 'node_modules'))
  symlinkSync(root, join(folder, 'node_modules', 'realm-node'), 'junction')
  return folder
}

test('every example has an expectation', (t) => t.is(examples.length, expected.length))

for (const [index, output] of expected.entries()) {
  test(`example ${index + 1} of the README runs`, async (t) => {
    const folder = project()
    t.teardown(() => rmSync(folder, { recursive: true, force: true }))
    writeFileSync(join(folder, 'example.mjs'), examples[index] ?? '')
    const { stdout, stderr } = await run(process.execPath, ['example.mjs'], { cwd: folder, timeout: 60_000 })
    t.regex(stdout, output)
    t.is(stderr, '')
  })
}
