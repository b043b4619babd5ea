#!/usr/bin/env node
// A chat in the terminal, made of nothing but the package's public API. The answer goes to stdout, the rest to stderr,
// so that the answer alone can be piped on.
import { basename } from 'node:path'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { configure, embeddedModel, generateStream, getModelInfo, storeModel } from 'realm-node'

const HELP = `Asks a language model, in this process and without a network.

  npm start                                    asks the model that comes with the package
  npm start -- --model FILE "What is Rust?"    asks any GGUF model
  npm start -- --interactive                   chats: /reset forgets, /exit or Ctrl-D leaves, Ctrl-C stops an answer

Options:
  -m, --model FILE        a GGUF file (default: the embedded Realm Tiny)
  -i, --interactive       chat until /exit
  -s, --system TEXT       what the model is told before the first question
  -t, --temperature N     0 always takes the likeliest token (default: 0 for Realm Tiny, else the model's own)
  -n, --max-tokens N      the longest answer (default: until the model ends it or the context is full)
      --seed N            the same seed gives the same answer
      --threads N         threads that compute (default: one for each core)
  -h, --help              this text
`

const DEFAULT_QUESTION = 'What is the capital of France?'

const OPTIONS = {
  model: { type: 'string', short: 'm' },
  interactive: { type: 'boolean', short: 'i' },
  system: { type: 'string', short: 's' },
  temperature: { type: 'string', short: 't' },
  'max-tokens': { type: 'string', short: 'n' },
  seed: { type: 'string' },
  threads: { type: 'string' },
  help: { type: 'boolean', short: 'h' },
}

const { stdin, stdout, stderr } = process
const dim = (text) => (stderr.isTTY && !process.env.NO_COLOR ? `\x1b[2m${text}\x1b[22m` : text)
const note = (text) => stderr.write(`${dim(text)}\n`)

function usageError(message) {
  return Object.assign(new Error(`${message} (--help tells more)`), { code: 'ERR_USAGE' })
}

function numberOption(values, name) {
  const text = values[name]
  if (text === undefined) return undefined
  const number = Number(text)
  if (text.trim() === '' || !Number.isFinite(number)) throw usageError(`--${name} needs a number, not '${text}'`)
  return number
}

/** Draws a bar on stderr while a model loads, but only for people, and only if there is something to wait for. */
function progressBar(label) {
  const patience = 200
  const width = 30
  const start = performance.now()
  let drawn = false
  return {
    update(fraction) {
      if (!stderr.isTTY || performance.now() - start < patience) return
      const full = Math.round(fraction * width)
      const bar = '█'.repeat(full) + '░'.repeat(width - full)
      stderr.write(`\r${dim(`${label} ${bar} ${String(Math.round(fraction * 100)).padStart(3)} %`)}`)
      drawn = true
    },
    clear() {
      if (drawn) stderr.write('\r\x1b[2K')
    },
  }
}

async function load(file) {
  const bar = progressBar(`loading ${basename(file)}`)
  try {
    return getModelInfo(await storeModel(file, { onProgress: bar.update }))
  } finally {
    bar.clear()
  }
}

function describe(model) {
  const parameters = new Intl.NumberFormat('en', { notation: 'compact', maximumSignificantDigits: 3 })
  return `${model.name} · ${model.quantization} · ${parameters.format(model.parameterCount)} parameters`
}

function statistics({ finishReason, usage, timings }) {
  const count = usage.completionTokens
  const parts = [`${count} ${count === 1 ? 'token' : 'tokens'}`]
  // The clock starts with the first token; at an end token it also covers the step that found it.
  const steps = finishReason === 'length' ? count - 1 : count
  if (steps > 0 && timings.generateMs > 0) parts.push(`${((1000 * steps) / timings.generateMs).toFixed(1)} tokens/s`)
  if (count > 0) parts.push(`first token after ${timings.firstTokenMs.toFixed(0)} ms`)
  return parts.join(' · ')
}

/** Streams one answer to stdout and resolves to its text; to what there is of it when `signal` fires. */
async function answer(model, prompt, options, signal) {
  let text = ''
  let last
  try {
    for await (const chunk of generateStream(model.id, prompt, { ...options, signal })) {
      text += chunk.text
      stdout.write(chunk.text)
      last = chunk
    }
  } catch (error) {
    if (!signal.aborted) throw error
  } finally {
    if (text !== '' && !text.endsWith('\n')) stdout.write('\n')
  }
  note(last?.usage ? statistics(last) : 'stopped')
  return text
}

const systemMessages = (system) => (system === undefined ? [] : [{ role: 'system', content: system }])

/** A base model without chat template continues the text instead of answering it. */
function firstPrompt(model, question, system) {
  return model.hasChatTemplate ? [...systemMessages(system), { role: 'user', content: question }] : question
}

async function askOnce(model, question, system, options) {
  const cancel = new AbortController()
  process.once('SIGINT', () => cancel.abort())
  note(`> ${question}`)
  await answer(model, firstPrompt(model, question, system), options, cancel.signal)
  if (cancel.signal.aborted) process.exitCode = 130
}

/** Exchanges so far and the answer to one more question; a question without an answer leaves no trace. */
class Conversation {
  constructor(model, system, options) {
    this.model = model
    this.options = options
    this.system = system
    this.reset()
  }

  reset() {
    this.messages = systemMessages(this.system)
  }

  async ask(question, signal) {
    const asked = [...this.messages, { role: 'user', content: question }]
    const prompt = this.model.hasChatTemplate ? asked : question
    const text = await answer(this.model, prompt, this.options, signal)
    if (text !== '') this.messages = [...asked, { role: 'assistant', content: text }]
  }
}

async function chat(conversation) {
  const terminal = Boolean(stdin.isTTY && stderr.isTTY)
  const lines = createInterface({ input: stdin, output: stderr, terminal, prompt: '> ' })
  let running
  let open = true
  // The last line of a pipe can be answered after its end.
  const prompt = () => {
    if (terminal && open) lines.prompt()
  }
  lines.on('close', () => {
    open = false
  })
  lines.on('SIGINT', () => {
    if (!running) lines.close()
    else if (running.signal.aborted) process.exit(130)
    else running.abort()
  })
  const ask = async (question) => {
    running = new AbortController()
    try {
      await conversation.ask(question, running.signal)
    } catch (error) {
      report(error)
      if (error.code === 'ERR_REALM_CONTEXT_OVERFLOW') note('/reset starts over with an empty context')
    } finally {
      running = undefined
    }
  }

  prompt()
  for await (const line of lines) {
    const question = line.trim()
    if (question === '/exit') break
    if (question === '/reset') conversation.reset()
    else if (question.startsWith('/')) note('/reset forgets the conversation, /exit leaves')
    else if (question !== '') await ask(question)
    prompt()
  }
  lines.close()
}

function report(error) {
  const message = error instanceof Error ? error.message.replaceAll(/\s*\n\s*/g, ' ') : String(error)
  stderr.write(`error: ${message}${error?.code ? ` [${error.code}]` : ''}\n`)
}

async function main() {
  const { values, positionals } = parseArgs({ options: OPTIONS, allowPositionals: true })
  if (values.help) {
    stdout.write(HELP)
    return
  }
  if (values.interactive && positionals.length > 0) throw usageError('--interactive takes no question')
  const threads = numberOption(values, 'threads')
  const file = values.model ?? embeddedModel
  const options = {
    temperature: numberOption(values, 'temperature') ?? (file === embeddedModel ? 0 : undefined),
    maxTokens: numberOption(values, 'max-tokens'),
    seed: numberOption(values, 'seed'),
  }
  if (threads !== undefined) configure({ threads })

  const model = await load(file)
  note(describe(model))
  if (values.system !== undefined && !model.hasChatTemplate) {
    throw usageError('--system needs a model with a chat template, this one has none')
  }
  if (!model.hasChatTemplate) note('this model has no chat template: it continues the text that it is given')
  if (values.interactive) await chat(new Conversation(model, values.system, options))
  else await askOnce(model, positionals.join(' ') || DEFAULT_QUESTION, values.system, options)
}

// A reader that has seen enough (`npm start | head -1`) is no error.
stdout.on('error', (error) => {
  if (error.code === 'EPIPE') process.exit(0)
  throw error
})

try {
  await main()
} catch (error) {
  report(error)
  process.exitCode = 1
}
