import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { embeddedModel, storeModel } from '../index.js'

/** The package's own folder. */
export const root = join(dirname(fileURLToPath(import.meta.url)), '..')

/** Reference data lies beside the checkout and is too large and too variously licensed to be part of it. */
const fixtures = join(root, '..', 'shared', 'fixtures')

/** Path of a file of reference data. A missing one is an error, never a reason to skip a test. */
export function fixture(...parts: string[]): string {
  const path = join(fixtures, ...parts)
  if (!existsSync(path)) {
    throw new Error(`reference data is missing: ${path} (the specs need the shared folder beside the checkout)`)
  }
  return path
}

/** A JSON document of the reference data. */
export function fixtureJson<T>(...parts: string[]): T {
  return JSON.parse(readFileSync(fixture(...parts), 'utf8')) as T
}

let embedded: Promise<string> | undefined

/** Id of the embedded model, stored once per spec file. */
export function embeddedId(): Promise<string> {
  embedded ??= storeModel(embeddedModel)
  return embedded
}

/** Runs a script in a process of its own, to its natural end. */
export function run(
  script: string,
  env: Record<string, string> = {},
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const prelude = `const realm = require(${JSON.stringify(join(root, 'index.js'))});`
  const child = spawn(process.execPath, ['-e', prelude + script], { env: { ...process.env, ...env } })
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text) => {
    stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text) => {
    stderr += text
  })
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code) => resolve({ code, stdout, stderr }))
  })
}
