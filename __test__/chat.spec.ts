import { spawn } from 'node:child_process'
import { join } from 'node:path'
import test from 'ava'
import { root } from './helpers.js'

/** Runs the chat program to its end, with `input` as what a user pipes into it. */
function chat(args: string[], input = ''): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [join(root, 'examples', 'chat.mjs'), ...args])
    let stdout = ''
    let stderr = ''
    child.stdout.setEncoding('utf8').on('data', (text) => {
      stdout += text
    })
    child.stderr.setEncoding('utf8').on('data', (text) => {
      stderr += text
    })
    child.on('error', reject)
    child.on('close', (code) => resolve({ code, stdout, stderr }))
    child.stdin.end(input)
  })
}

test('without arguments it asks the embedded model', async (t) => {
  const { code, stdout, stderr } = await chat([])
  t.is(stdout, 'The capital of France is Paris.\n')
  t.regex(stderr, /\d+ tokens · [\d.]+ tokens\/s · first token after \d+ ms/)
  t.is(code, 0)
})

test('it asks what it is told to', async (t) => {
  const { stdout } = await chat([
    'What is the capital of Japan?',
    '--max-tokens',
    '40',
    '--seed',
    '1',
    '--threads',
    '2',
  ])
  t.is(stdout, 'The capital of Japan is Tokyo.\n')
})

test('a chat remembers what was said, until /reset', async (t) => {
  const { code, stdout } = await chat(
    ['--interactive'],
    'My name is Clara.\nWhat is my name?\n/reset\nWhat is my name?\n/exit\n',
  )
  const answers = stdout.trim().split('\n')
  t.is(answers.length, 3)
  t.regex(answers[1] ?? '', /Clara/)
  t.notRegex(answers[2] ?? '', /Clara/)
  t.is(code, 0)
})

test('what goes wrong is one line with its code', async (t) => {
  const missing = await chat(['--model', 'no-such-file.gguf'])
  t.is(missing.code, 1)
  t.is(missing.stdout, '')
  t.regex(missing.stderr, /^error: .*no-such-file\.gguf.* \[ERR_REALM_IO\]\n$/)
  const unknown = await chat(['--frobnicate'])
  t.is(unknown.code, 1)
  t.regex(unknown.stderr, /^error: .*--frobnicate.* \[ERR_PARSE_ARGS_UNKNOWN_OPTION\]\n$/)
  const number = await chat(['--seed', 'x'])
  t.regex(number.stderr, /^error: --seed needs a number, not 'x'.* \[ERR_USAGE\]\n$/)
})
