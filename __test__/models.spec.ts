// Storing, describing and removing models.
import { readFileSync, statSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import test from 'ava'
import {
  embeddedModel,
  generate,
  generateStream,
  getMetadata,
  getModelInfo,
  getTensor,
  getTensorData,
  listModels,
  listTensors,
  removeModel,
  storeModel,
} from '../index.js'
import { fixture } from './helpers.js'
import { collect, endless, greedy, listeners, rejection } from './support.js'

// The tests count references and so must not overlap; each leaves the registry as it found it: empty.
test.afterEach(() => {
  for (const { id } of listModels()) while (!removeModel(id));
})

const base = fixture('malformed', 'base.gguf')
const ids = (): string[] => listModels().map((model) => model.id)

test.serial('a path is stored under an id of 32 hexadecimal digits, always the same', async (t) => {
  const id = await storeModel(embeddedModel)
  t.regex(id, /^[0-9a-f]{32}$/)
  t.is(await storeModel(embeddedModel), id)
  t.not(await storeModel(base), id)
})

test.serial('a path, a file: URL and the bytes of the same file are the same model', async (t) => {
  const bytes = readFileSync(embeddedModel)
  const id = await storeModel(embeddedModel)
  t.is(await storeModel(pathToFileURL(embeddedModel)), id)
  t.is(await storeModel(bytes), id)
  t.is(await storeModel(new Uint8Array(bytes)), id)
  t.deepEqual(ids(), [id])
})

test.serial('a view into a larger buffer is stored as the view', async (t) => {
  const bytes = readFileSync(base)
  const larger = new Uint8Array(bytes.length + 100)
  larger.set(bytes, 37)
  t.is(await storeModel(larger.subarray(37, 37 + bytes.length)), await storeModel(base))
})

test.serial('bytes are kept as given: changing them afterwards changes nothing', async (t) => {
  const bytes = new Uint8Array(readFileSync(embeddedModel))
  const id = await storeModel(bytes)
  const before = await generate(id, 'The capital of France is', { ...greedy, maxTokens: 3 })
  bytes.fill(0)
  const after = await generate(id, 'The capital of France is', { ...greedy, maxTokens: 3 })
  t.is(before.text, ' Paris.')
  t.is(after.text, ' Paris.')
})

test.serial('getModelInfo tells what the file says', async (t) => {
  const id = await storeModel(embeddedModel)
  const info = getModelInfo(id)
  t.like(info, {
    id,
    architecture: 'llama',
    quantization: 'Q8_0',
    fileSize: statSync(embeddedModel).size,
    parameterCount: 3_672_320,
    contextLength: 512,
    embeddingLength: 256,
    layerCount: 4,
    headCount: 8,
    kvHeadCount: 4,
    vocabularySize: 2048,
    hasChatTemplate: true,
    path: embeddedModel,
  })
  const tensors = listTensors(id)
  t.is(info.tensorCount, tensors.length)
  t.is(
    info.totalSize,
    tensors.reduce((sum, tensor) => sum + tensor.byteLength, 0),
  )
  t.deepEqual(listModels(), [info])
})

test.serial('a model stored from bytes has no path', async (t) => {
  t.false('path' in getModelInfo(await storeModel(readFileSync(base))))
})

test.serial('getMetadata summarises long arrays unless asked for them', async (t) => {
  const id = await storeModel(embeddedModel)
  const metadata = getMetadata(id)
  t.is(metadata['general.architecture'], 'llama')
  t.is(metadata['llama.context_length'], 512)
  t.is(metadata['tokenizer.ggml.model'], 'gpt2')
  t.deepEqual(metadata['tokenizer.ggml.tokens'], { type: 'string', length: 2048 })
  const tokens = getMetadata(id, { arrays: true })['tokenizer.ggml.tokens'] as string[]
  t.is(tokens.length, 2048)
  t.is(tokens[1], '<|startoftext|>')
})

test.serial('getMetadata keeps integers that a number cannot hold', async (t) => {
  for (const file of ['metadata-unknown-key-u64.gguf', 'metadata-unknown-key-i64.gguf']) {
    const values = Object.values(getMetadata(await storeModel(fixture('malformed', file))))
    t.true(values.length > 0)
    for (const value of values) {
      if (typeof value === 'bigint') t.true(value > 2n ** 53n - 1n || value < -(2n ** 53n - 1n))
      if (typeof value === 'number' && Number.isInteger(value)) t.true(Number.isSafeInteger(value))
    }
  }
})

test.serial('tensors come dequantised and as stored, in their shape', async (t) => {
  const id = await storeModel(embeddedModel)
  for (const { name, shape, byteLength } of listTensors(id)) {
    const values = await getTensor(id, name)
    t.is(
      values.length,
      shape.reduce((product, n) => product * n, 1),
      name,
    )
    t.true(values.every(Number.isFinite), name)
    t.is((await getTensorData(id, name)).length, byteLength, name)
  }
})

test.serial('a Q8_0 tensor is scale times integer', async (t) => {
  const id = await storeModel(embeddedModel)
  const name = 'token_embd.weight'
  t.like(
    listTensors(id).find((tensor) => tensor.name === name),
    { type: 'Q8_0', shape: [2048, 256] },
  )
  const values = await getTensor(id, name)
  const bytes = await getTensorData(id, name)
  // A block is a half-precision scale and 32 signed bytes.
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const expected = new Float32Array(values.length)
  for (let block = 0; block < values.length / 32; block++) {
    const scale = half(view.getUint16(block * 34, true))
    for (let i = 0; i < 32; i++) expected[block * 32 + i] = scale * view.getInt8(block * 34 + 2 + i)
  }
  t.deepEqual(values, expected)
})

/** IEEE 754 binary16. */
function half(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1
  const exponent = (bits >> 10) & 31
  const fraction = bits & 1023
  if (exponent === 0) return sign * fraction * 2 ** -24
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15)
}

test.serial('a tensor that does not exist is an error that names it', async (t) => {
  const id = await storeModel(base)
  for (const get of [getTensor, getTensorData]) {
    await t.throwsAsync(get(id, 'no.such.weight'), { code: 'ERR_REALM_TENSOR_NOT_FOUND', message: /no\.such\.weight/ })
  }
})

test.serial('storing adds a reference, removing releases one, the last one ends the model', async (t) => {
  const id = await storeModel(base)
  await storeModel(base)
  t.false(removeModel(id))
  t.deepEqual(ids(), [id])
  t.true(removeModel(id))
  t.deepEqual(ids(), [])
  t.throws(() => getModelInfo(id), { code: 'ERR_REALM_MODEL_NOT_FOUND' })
  t.throws(() => removeModel(id), { code: 'ERR_REALM_MODEL_NOT_FOUND' })
  t.is(await storeModel(base), id)
})

test.serial('the same file stored many times at once is one model with many references', async (t) => {
  const stored = await Promise.all(Array.from({ length: 8 }, () => storeModel(embeddedModel)))
  t.is(new Set(stored).size, 1)
  t.is(listModels().length, 1)
  for (let i = 0; i < 7; i++) t.false(removeModel(stored[0]))
  t.true(removeModel(stored[0]))
})

test.serial('removing the last reference ends what runs on the model', async (t) => {
  const id = await storeModel(embeddedModel)
  const stream = generateStream(id, 'Once upon a time', endless)
  const whole = generate(id, 'Once upon a time', endless)
  t.false((await stream.next()).done)
  t.true(removeModel(id))
  await t.throwsAsync(whole, { code: 'ERR_REALM_MODEL_REMOVED', message: new RegExp(id) })
  await t.throwsAsync(collect(stream), { code: 'ERR_REALM_MODEL_REMOVED' })
  t.true((await stream.next()).done)
})

test.serial('a failed store leaves nothing behind', async (t) => {
  const bytes = new Uint8Array(readFileSync(base))
  await t.throwsAsync(storeModel('/no/such/file.gguf'), { code: 'ERR_REALM_IO', message: /\/no\/such\/file\.gguf/ })
  await t.throwsAsync(storeModel(bytes.subarray(0, bytes.length - 1)), { code: 'ERR_REALM_BAD_GGUF' })
  await t.throwsAsync(storeModel(new Uint8Array(1000)), { code: 'ERR_REALM_BAD_GGUF', message: /byte 0/ })
  await t.throwsAsync(storeModel(new Uint8Array(0)), { code: 'ERR_REALM_BAD_GGUF' })
  t.deepEqual(ids(), [])
})

test.serial('progress rises to 1, which is told before the promise resolves', async (t) => {
  for (const source of [embeddedModel, readFileSync(embeddedModel)]) {
    const fractions: number[] = []
    await storeModel(source, { onProgress: (fraction) => fractions.push(fraction) })
    t.is(fractions.at(-1), 1)
    t.true(fractions.every((fraction, i) => fraction >= (fractions[i - 1] ?? 0) && fraction <= 1))
    t.is(fractions.filter((fraction) => fraction === 1).length, 1)
  }
})

test.serial('what onProgress throws rejects the promise, and nothing is stored', async (t) => {
  for (const thrown of [new Error('mine'), 'a string']) {
    const onProgress = (): void => {
      throw thrown
    }
    t.is(await rejection(storeModel(embeddedModel, { onProgress })), thrown)
    t.deepEqual(ids(), [])
  }
})

test.serial('a store whose signal has fired rejects with the reason and does nothing', async (t) => {
  const reason = { any: 'value' }
  t.is(await rejection(storeModel(embeddedModel, { signal: AbortSignal.abort(reason) })), reason)
  t.deepEqual(ids(), [])
})

// Larger than what is copied in one turn of the event loop, so that something can happen in between.
const large = 40 << 20

test.serial('a signal that fires while bytes are copied rejects with the reason', async (t) => {
  const controller = new AbortController()
  const stored = storeModel(new Uint8Array(large), { signal: controller.signal })
  const reason = new Error('enough')
  controller.abort(reason)
  t.is(await rejection(stored), reason)
  t.is(listeners(controller.signal), 0)
})

test.serial('a signal that does not fire is let go of', async (t) => {
  const { signal } = new AbortController()
  await storeModel(embeddedModel, { signal })
  await rejection(storeModel(new Uint8Array(10), { signal }))
  t.is(listeners(signal), 0)
})

// A large array is copied a slice per turn of the event loop: what is left of it can be taken away after the first.
test.serial('bytes that are taken away while they are copied are an error', async (t) => {
  const bytes = new Uint8Array(large)
  const stored = storeModel(bytes)
  structuredClone(bytes.buffer, { transfer: [bytes.buffer] })
  await t.throwsAsync(stored, { code: 'ERR_REALM_INVALID_ARGUMENT', message: /detached/ })
})
