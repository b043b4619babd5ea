// `inspect` and the command line tell what a file is without storing it.
import { type ExecFileException, execFile } from 'node:child_process'
import { closeSync, ftruncateSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import test from 'ava'
import { embeddedModel, getModelInfo, inspect, listModels, listTensors, storeModel, systemInfo } from '../index.js'
import { fixture, fixtureJson, root } from './helpers.js'
import { rejection } from './support.js'

const folder = mkdtempSync(join(tmpdir(), 'realm-inspect-'))
test.after.always(() => rmSync(folder, { recursive: true }))

/** The start of a GGUF file, version 3: its header and one string. */
function header(tensors: number, key: string, value: string): Buffer {
  const text = (s: string) => {
    const length = Buffer.alloc(8)
    length.writeBigUInt64LE(BigInt(Buffer.byteLength(s)))
    return Buffer.concat([length, Buffer.from(s)])
  }
  const start = Buffer.alloc(24)
  start.write('GGUF')
  start.writeUInt32LE(3, 4)
  start.writeBigUInt64LE(BigInt(tensors), 8)
  start.writeBigUInt64LE(1n, 16)
  return Buffer.concat([start, text(key), Buffer.from([8, 0, 0, 0]), text(value)])
}

/** One tensor's entry: its name, one dimension, its type. */
function tensor(name: string, elements: number, type: number): Buffer {
  const entry = Buffer.alloc(8 + name.length + 4 + 8 + 4 + 8)
  entry.writeBigUInt64LE(BigInt(name.length))
  entry.write(name, 8)
  entry.writeUInt32LE(1, 8 + name.length)
  entry.writeBigUInt64LE(BigInt(elements), 12 + name.length)
  entry.writeUInt32LE(type, 20 + name.length)
  return entry
}

interface Outcome {
  code: number
  stdout: string
  stderr: string
}

function cli(...args: string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    const done = (error: ExecFileException | null, stdout: string, stderr: string) =>
      resolve({ code: error ? Number(error.code) : 0, stdout, stderr })
    execFile(process.execPath, [join(root, 'bin', 'realm-node.mjs'), ...args], done)
  })
}

test('a report agrees with the stored model, and stores nothing', async (t) => {
  const before = listModels().length
  const report = await inspect(embeddedModel)
  t.is(listModels().length, before)
  const id = await storeModel(embeddedModel)
  const { id: _, hasChatTemplate, totalSize, ...info } = getModelInfo(id)
  t.like(report, info)
  t.is(report.chatTemplate !== undefined, hasChatTemplate)
  t.true(report.runs)
  t.deepEqual(report.problems, [])
  t.is(report.instructionSet, systemInfo().instructionSet)
  t.is(report.shardCount, 1)
  t.true(report.tensorTypes.every((type) => type.supported))
  const sum = (numbers: number[]) => numbers.reduce((a, b) => a + b, 0)
  t.is(sum(report.tensorTypes.map((type) => type.byteLength)), totalSize)
  const q8 = listTensors(id).filter((tensor) => tensor.type === 'Q8_0')
  t.like(
    report.tensorTypes.find((type) => type.type === 'Q8_0'),
    { count: q8.length, byteLength: sum(q8.map((tensor) => tensor.byteLength)) },
  )
})

test('memory grows with the context, and with the width of keys and values', async (t) => {
  const at = async (contextLength?: number) => {
    const { memory, ...report } = await inspect(pathToFileURL(embeddedModel), { contextLength })
    if (memory === undefined) throw new Error('a model that runs takes memory')
    return { memory, report }
  }
  const { memory, report } = await at()
  t.is(memory.contextLength, report.contextLength)
  t.is(memory.mapped, report.fileSize)
  const { kvCache } = (await at(640)).memory
  t.is(kvCache.f32, 2 * kvCache.f16)
  t.true(kvCache.q8_0 < kvCache.f16)
  // Keys and values of each layer and head, two bytes each.
  t.is(kvCache.f16, 640 * report.layerCount * report.kvHeadCount * 2 * 2 * (report.embeddingLength / report.headCount))
  t.is((await at(1280)).memory.kvCache.f16, 2 * kvCache.f16)
})

test('a vocabulary without weights is described and does not run', async (t) => {
  const report = await inspect(fixture('tokenizers', 'ggml-vocab-gpt-2.gguf'))
  t.false(report.runs)
  t.deepEqual(report.problems, ['the file has no weights'])
  t.is(report.memory, undefined)
  const { bos, eos, n_tokens } = fixtureJson<{ bos: number; eos: number; n_tokens: number }>('tokenizers', 'gpt-2.json')
  t.like(report.tokenizer, { model: 'gpt2', pre: 'gpt-2', supported: true, vocabularySize: n_tokens })
  t.deepEqual(report.tokenizer?.bos, { id: bos, text: '<|endoftext|>' })
  t.deepEqual(report.tokenizer?.endOfGeneration, [{ id: eos, text: '<|endoftext|>' }])
  t.is(report.tokenizer?.addedBefore, undefined)
})

test('what keeps a file from running is named', async (t) => {
  const path = join(folder, 'strange.gguf')
  // Type 16 is IQ2_XXS: 66 bytes for 256 elements.
  const start = Buffer.concat([header(1, 'general.architecture', 'strange'), tensor('x', 256, 16)])
  writeFileSync(path, Buffer.concat([start, Buffer.alloc(32 - (start.length % 32) + 66)]))
  const report = await inspect(path)
  t.false(report.runs)
  t.regex(report.problems[0], /architecture 'strange' is not supported/)
  t.is(report.architecture, 'strange')
  t.like(report.tensorTypes[0], { type: 'IQ2_XXS', count: 1, byteLength: 66 })
  const mentions = report.problems.some((problem) => problem.includes('IQ2_XXS'))
  t.is(mentions, !report.tensorTypes[0].supported)
  t.is(report.tokenizer, undefined)

  writeFileSync(path, header(0, 'tokenizer.ggml.model', 'rwkv'))
  const other = await inspect(path)
  t.true(other.problems.some((problem) => problem.includes('tokenizer.ggml.')))
  t.deepEqual(other.tokenizer, { model: 'rwkv', supported: false, endOfGeneration: [] })
})

test('the size of a file does not matter', async (t) => {
  // A tensor of 64 GiB, of which nothing is written.
  const path = join(folder, 'large.gguf')
  const elements = 2 ** 34
  const start = Buffer.concat([header(1, 'general.architecture', 'strange'), tensor('x', elements, 0)])
  writeFileSync(path, start)
  const file = openSync(path, 'r+')
  ftruncateSync(file, start.length + (32 - (start.length % 32)) + 4 * elements)
  closeSync(file)
  const report = await inspect(path)
  t.is(report.parameterCount, elements)
  t.is(report.tensorTypes[0].byteLength, 4 * elements)
})

test('files that cannot be read and wrong arguments reject', async (t) => {
  const code = async (promise: Promise<unknown>) => ((await rejection(promise)) as { code: string }).code
  t.is(await code(inspect(join(folder, 'nowhere.gguf'))), 'ERR_REALM_IO')
  t.is(await code(inspect(join(root, 'package.json'))), 'ERR_REALM_BAD_GGUF')
  const wrong = [
    // @ts-expect-error: no path
    inspect(new Uint8Array(4)),
    inspect(''),
    inspect(embeddedModel, { contextLength: 0 }),
    inspect(embeddedModel, { contextLength: 1.5 }),
    // @ts-expect-error: no such option
    inspect(embeddedModel, { context: 1 }),
  ]
  for (const promise of wrong) t.is(await code(promise), 'ERR_REALM_INVALID_ARGUMENT')
})

test('realm-node inspect prints the report', async (t) => {
  const { code, stdout, stderr } = await cli('inspect', embeddedModel, '--context', '640')
  t.is(stderr, '')
  t.is(code, 0)
  const { memory, architecture, name } = await inspect(embeddedModel, { contextLength: 640 })
  t.regex(stdout, new RegExp(`^name +${name}$`, 'm'))
  t.regex(stdout, new RegExp(`^architecture +${architecture}$`, 'm'))
  t.regex(stdout, /^runs here +yes/m)
  t.regex(stdout, /for 640 tokens of context/)
  t.is(memory?.contextLength, 640)
})

test('realm-node inspect --json prints it as the API has it', async (t) => {
  const { code, stdout } = await cli('inspect', '--json', embeddedModel)
  t.is(code, 0)
  t.deepEqual(JSON.parse(stdout), JSON.parse(JSON.stringify(await inspect(embeddedModel))))
})

test('exit codes tell failures apart', async (t) => {
  const noWeights = await cli('inspect', fixture('tokenizers', 'ggml-vocab-gpt-2.gguf'))
  t.is(noWeights.code, 3)
  t.regex(noWeights.stdout, /^runs here +no\n +the file has no weights$/m)

  const missing = await cli('inspect', join(folder, 'nowhere.gguf'))
  t.is(missing.code, 1)
  t.regex(missing.stderr, /^realm-node: cannot read .*nowhere\.gguf/)
  const damaged = join(folder, 'damaged.gguf')
  writeFileSync(damaged, readFileSync(embeddedModel).subarray(0, 1000))
  t.is((await cli('inspect', damaged)).code, 1)

  for (const args of [
    [],
    ['look'],
    ['inspect'],
    ['inspect', 'a', 'b'],
    ['inspect', 'a', '--context', 'x'],
    ['--what'],
  ]) {
    const { code, stderr, stdout } = await cli(...args)
    t.is(code, 2, args.join(' '))
    t.regex(stderr, /^realm-node: .*--help tells more/)
    t.is(stdout, '')
  }
  const help = await cli('--help')
  t.is(help.code, 0)
  t.regex(help.stdout, /realm-node inspect FILE/)
})
