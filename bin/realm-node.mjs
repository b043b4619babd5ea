#!/usr/bin/env node
// The command line of the package. Reports go to stdout, what is wrong to stderr.
import { parseArgs } from 'node:util'
import { inspect } from '../index.js'

const HELP = `Tells what a GGUF file is, whether it runs here, and the memory it needs.

  realm-node inspect FILE [--json] [--context N]

Options:
      --json         the report as JSON (FileReport in index.d.ts)
  -c, --context N    tokens of context to tell the memory for (default: what the model was trained for)
  -h, --help         this text

Of a model in shards, FILE is the first. Exit codes: 0 the file runs here, 1 it cannot be read, 2 wrong usage,
3 it can be read and does not run here.
`

const OPTIONS = {
  json: { type: 'boolean' },
  context: { type: 'string', short: 'c' },
  help: { type: 'boolean', short: 'h' },
}

const TEMPLATE_LINES = 5

function usageError(message) {
  return Object.assign(new Error(`${message} (--help tells more)`), { code: 'ERR_USAGE' })
}

function contextLength(text) {
  if (text === undefined) return undefined
  const number = Number(text)
  if (!/^\d+$/.test(text) || number < 1 || number > 2 ** 32) {
    throw usageError(`--context needs a number of tokens from 1 to ${2 ** 32}, not '${text}'`)
  }
  return number
}

/** 1234567 as `1.18 MiB`. */
function bytes(number) {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB']
  let unit = 0
  while (number >= 1024 && unit < units.length - 1) {
    number /= 1024
    unit++
  }
  return `${unit === 0 ? number : number.toPrecision(number < 1000 ? 3 : 4)} ${units[unit]}`
}

/** 3700000 as `3.7 million`. */
function count(number) {
  const units = [
    [1e9, 'billion'],
    [1e6, 'million'],
    [1e3, 'thousand'],
  ]
  const [size, name] = units.find(([size]) => number >= size) ?? [1, '']
  return size === 1 ? String(number) : `${Number((number / size).toPrecision(3))} ${name}`
}

/** Text from a file must not steer the terminal. */
function plain(text) {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: those are what this is about
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`)
}

const token = ({ id, text }) => `${id} ${plain(text)}`

function* rows(report) {
  yield ['file', report.path]
  yield ['name', report.name]
  yield ['architecture', report.architecture || 'not named']
  yield ['quantisation', report.quantization]
  yield ['parameters', `${count(report.parameterCount)} in ${report.tensorCount} tensors`]
  const shards = report.shardCount > 1 ? ` in ${report.shardCount} shards` : ''
  yield ['size', `${bytes(report.fileSize)}${shards}`]
  yield ['runs here', report.runs ? `yes, with ${report.instructionSet}` : 'no']
  for (const problem of report.problems) yield ['', problem]
  if (report.layerCount) {
    const { layerCount, embeddingLength, headCount, kvHeadCount } = report
    yield [
      'shape',
      `${layerCount} layers of ${embeddingLength}, ${headCount} heads, ${kvHeadCount} for keys and values`,
    ]
  }
  if (report.contextLength) yield ['context', `${report.contextLength} tokens`]
  yield* tensorRows(report.tensorTypes)
  yield* tokenizerRows(report.tokenizer)
  yield* templateRows(report)
  yield* memoryRows(report.memory)
}

function* tensorRows(types) {
  let label = 'tensors'
  for (const { type, count, byteLength, supported } of types) {
    const note = supported ? '' : ', not supported'
    yield [label, `${type.padEnd(8)} ${String(count).padStart(5)}  ${bytes(byteLength).padStart(10)}${note}`]
    label = ''
  }
}

function* tokenizerRows(tokenizer) {
  if (!tokenizer) {
    yield ['tokenizer', 'none']
    return
  }
  const { model, pre, supported, vocabularySize, bos, eos, addedBefore, addedAfter, endOfGeneration } = tokenizer
  const size = supported ? `, ${vocabularySize} tokens` : ', not supported'
  yield ['tokenizer', `${model}${pre ? ` (${pre})` : ''}${size}`]
  if (bos) yield ['', `begins a text: ${token(bos)}${addedBefore?.id === bos.id ? '' : ', not added'}`]
  if (addedBefore && addedBefore.id !== bos?.id) yield ['', `added before a text: ${token(addedBefore)}`]
  if (eos) yield ['', `ends a text: ${token(eos)}${addedAfter?.id === eos.id ? '' : ', not added'}`]
  if (addedAfter && addedAfter.id !== eos?.id) yield ['', `added after a text: ${token(addedAfter)}`]
  if (endOfGeneration.length) yield ['', `end an answer: ${endOfGeneration.map(token).join(', ')}`]
}

function* templateRows({ chatTemplate, chatTemplateError }) {
  if (chatTemplate === undefined) {
    yield ['chat template', 'none']
    return
  }
  const lines = chatTemplate.split('\n')
  const shown = lines.slice(0, TEMPLATE_LINES).map((line) => (line.length > 100 ? `${line.slice(0, 100)}…` : line))
  yield ['chat template', `${chatTemplate.length} characters in ${lines.length} lines`]
  if (chatTemplateError) yield ['', `cannot be used: ${chatTemplateError}`]
  for (const line of shown) yield ['', `  ${line}`]
  if (lines.length > TEMPLATE_LINES) yield ['', '  …']
}

function* memoryRows(memory) {
  if (!memory) return
  const { contextLength, mapped, kvCache, scratch } = memory
  yield ['memory', `for ${contextLength} tokens of context:`]
  yield ['', `${bytes(mapped)} mapped from the file`]
  const kinds = Object.entries(kvCache).map(([type, size]) => `${bytes(size)} (${type})`)
  yield ['', `${kinds.join(', ')} for keys and values`]
  yield ['', `about ${bytes(scratch)} to compute in`]
}

function print(report) {
  for (const [label, text] of rows(report)) console.log(`${label.padEnd(14)} ${plain(text)}`.trimEnd())
}

async function main() {
  let parsed
  try {
    parsed = parseArgs({ options: OPTIONS, allowPositionals: true })
  } catch (error) {
    throw usageError(error.message)
  }
  const { values, positionals } = parsed
  if (values.help) {
    process.stdout.write(HELP)
    return 0
  }
  const [command, ...files] = positionals
  if (command !== 'inspect') throw usageError(command ? `there is no command '${command}'` : 'which command?')
  if (files.length !== 1) throw usageError('inspect takes one file')
  const report = await inspect(files[0], { contextLength: contextLength(values.context) })
  if (values.json) console.log(JSON.stringify(report, null, 2))
  else print(report)
  return report.runs ? 0 : 3
}

try {
  process.exitCode = await main()
} catch (error) {
  const known = typeof error.code === 'string' && error.code.startsWith('ERR_')
  console.error(known ? `realm-node: ${plain(error.message)}` : error)
  process.exitCode = error.code === 'ERR_USAGE' ? 2 : 1
}
