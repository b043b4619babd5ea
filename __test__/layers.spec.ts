// The layer API: the engine's own forward pass, in pieces.
import test, { type ExecutionContext } from 'ava'
import {
  computeLogits,
  embedTokens,
  forwardLayer,
  generate,
  getModelInfo,
  getTensor,
  KvCache,
  tokenize,
} from '../index.js'
import { embeddedId } from './helpers.js'
import { argmax, collectGarbageUntil, greedy, lastRow } from './support.js'

const text = 'Monday, Tuesday, Wednesday,'

/** `tokens`, the first at `position`, through all layers. */
async function forward(id: string, tokens: Uint32Array, position: number, cache?: KvCache): Promise<Float32Array> {
  let hidden = await embedTokens(id, tokens)
  const { layerCount } = getModelInfo(id)
  for (let layer = 0; layer < layerCount; layer++) hidden = await forwardLayer(id, layer, hidden, position, cache)
  return hidden
}

/** Logits after the last token, computed in pieces of `size`. */
async function inPieces(id: string, tokens: Uint32Array, size: number, cache: KvCache): Promise<Float32Array> {
  let hidden = new Float32Array()
  for (let i = 0; i < tokens.length; i += size) {
    hidden = (await forward(id, tokens.subarray(i, i + size), i, cache)) as Float32Array<ArrayBuffer>
  }
  return computeLogits(id, lastRow(hidden, getModelInfo(id).embeddingLength))
}

/** Equal in every bit. */
function same(t: ExecutionContext, a: Float32Array, b: Float32Array, message?: string): void {
  const bits = (x: Float32Array): Uint32Array => new Uint32Array(x.slice().buffer)
  t.deepEqual(bits(a), bits(b), message)
}

test('embedTokens gives the rows of the embedding table', async (t) => {
  const id = await embeddedId()
  const { embeddingLength } = getModelInfo(id)
  const table = await getTensor(id, 'token_embd.weight')
  const tokens = [0, 2047, 305, 305]
  const rows = await embedTokens(id, tokens)
  t.is(rows.length, tokens.length * embeddingLength)
  for (const [i, token] of tokens.entries()) {
    const row = rows.subarray(i * embeddingLength, (i + 1) * embeddingLength)
    same(t, row, table.subarray(token * embeddingLength, (token + 1) * embeddingLength))
  }
  same(t, await embedTokens(id, Uint32Array.from(tokens)), rows)
})

test('no tokens, no rows', async (t) => {
  const id = await embeddedId()
  t.is((await embedTokens(id, [])).length, 0)
})

test('embed, all layers, logits: what generate computes', async (t) => {
  const id = await embeddedId()
  const { vocabularySize } = getModelInfo(id)
  const tokens = await tokenize(id, text)
  const logits = await inPieces(id, tokens, tokens.length, new KvCache(id))
  t.is(logits.length, vocabularySize)

  const generated = await generate(id, tokens, { ...greedy, maxTokens: 1, logprobs: 20 })
  const [chosen] = generated.logprobs ?? []
  t.is(argmax(logits), generated.tokens[0])
  t.is(chosen.token, generated.tokens[0])
  const total = Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0))
  t.is(chosen.top.length, 20)
  const byLogit = [...logits.keys()].sort((a, b) => logits[b] - logits[a] || a - b)
  t.deepEqual(
    chosen.top.map(({ token }) => token),
    byLogit.slice(0, 20),
  )
  for (const { token, logprob } of chosen.top) t.true(Math.abs(logprob - (logits[token] - total)) < 1e-4)
})

test('decoding by hand gives the text that generate gives', async (t) => {
  const id = await embeddedId()
  const prompt = await tokenize(id, text)
  const expected = (await generate(id, prompt, { ...greedy, maxTokens: 8 })).tokens
  const cache = new KvCache(id)
  const tokens: number[] = []
  let logits = await inPieces(id, prompt, prompt.length, cache)
  for (let i = 0; i < 8; i++) {
    tokens.push(argmax(logits))
    logits = await computeLogits(id, await forward(id, Uint32Array.of(tokens[i]), prompt.length + i, cache))
  }
  t.deepEqual(Uint32Array.from(tokens), expected)
})

for (const type of ['f32', 'f16', 'q8_0'] as const) {
  test(`a prompt in pieces is the same to the bit as at once (${type})`, async (t) => {
    const id = await embeddedId()
    const tokens = await tokenize(id, text.repeat(6))
    const whole = await inPieces(id, tokens, tokens.length, new KvCache(id, { type }))
    for (const size of [1, 7, 32]) {
      same(t, await inPieces(id, tokens, size, new KvCache(id, { type })), whole, `pieces of ${size}`)
    }
  })
}

test('computeLogits treats each row by itself', async (t) => {
  const id = await embeddedId()
  const { embeddingLength, vocabularySize } = getModelInfo(id)
  const hidden = await forward(id, await tokenize(id, text), 0)
  const all = await computeLogits(id, hidden)
  for (let i = 0; i < hidden.length / embeddingLength; i++) {
    const row = await computeLogits(id, hidden.slice(i * embeddingLength, (i + 1) * embeddingLength))
    same(t, row, all.subarray(i * vocabularySize, (i + 1) * vocabularySize))
  }
})

test('without a cache rows see each other and nothing is kept', async (t) => {
  const id = await embeddedId()
  const tokens = await tokenize(id, text)
  const without = await forward(id, tokens, 0)
  same(t, await forward(id, tokens, 0), without)
  const cached = await forward(id, tokens, 0, new KvCache(id, { type: 'f32' }))
  const scale = Math.max(...cached.map(Math.abs))
  t.true(without.every((value, i) => Math.abs(value - cached[i]) < 0.02 * scale))
  // A row alone differs from the same row among others: attention looks at the others.
  const { embeddingLength } = getModelInfo(id)
  const alone = await forward(id, tokens.slice(-1), tokens.length - 1)
  t.notDeepEqual(alone, lastRow(without, embeddingLength).slice())
})

test('the input of a layer is copied before the call returns', async (t) => {
  const id = await embeddedId()
  const hidden = await embedTokens(id, [1, 305])
  const expected = await forwardLayer(id, 0, hidden, 0)
  const again = forwardLayer(id, 0, hidden, 0)
  hidden.fill(Number.NaN)
  same(t, await again, expected)
})

test('length counts the tokens that every layer holds', async (t) => {
  const id = await embeddedId()
  const cache = new KvCache(id)
  t.is(cache.length, 0)
  const { layerCount } = getModelInfo(id)
  let hidden = await embedTokens(id, [1, 305, 299])
  for (let layer = 0; layer < layerCount; layer++) {
    hidden = await forwardLayer(id, layer, hidden, 0, cache)
    t.is(cache.length, layer === layerCount - 1 ? 3 : 0)
  }
})

test('truncate forgets, and what follows is as if it had never been', async (t) => {
  const id = await embeddedId()
  const tokens = await tokenize(id, text)
  const cache = new KvCache(id)
  const expected = await inPieces(id, tokens, tokens.length, cache)
  const half = tokens.length >> 1
  await forward(id, Uint32Array.of(7, 8, 9), tokens.length, cache)
  cache.truncate(half)
  t.is(cache.length, half)
  const hidden = await forward(id, tokens.subarray(half), half, cache)
  same(t, await computeLogits(id, lastRow(hidden, getModelInfo(id).embeddingLength)), expected)
  cache.truncate(0)
  t.is(cache.length, 0)
  same(t, await inPieces(id, tokens, tokens.length, cache), expected)
  cache.truncate(tokens.length + 1)
  t.is(cache.length, tokens.length)
})

test('a fork goes its own way', async (t) => {
  const id = await embeddedId()
  const tokens = await tokenize(id, text)
  const cache = new KvCache(id)
  await forward(id, tokens, 0, cache)
  const next = Uint32Array.of(305)
  const fork = cache.fork()
  t.is(fork.length, tokens.length)
  const expected = await forward(id, next, tokens.length, cache)
  t.is(fork.length, tokens.length)
  await forward(id, Uint32Array.of(9), tokens.length, fork)
  fork.truncate(tokens.length)
  cache.dispose()
  same(t, await forward(id, next, tokens.length, fork), expected)
})

test('different caches may be used at once', async (t) => {
  const id = await embeddedId()
  const tokens = await tokenize(id, text)
  const expected = await inPieces(id, tokens, 4, new KvCache(id))
  const all = await Promise.all(Array.from({ length: 6 }, () => inPieces(id, tokens, 4, new KvCache(id))))
  for (const logits of all) same(t, logits, expected)
})

test('positions must follow each other', async (t) => {
  const id = await embeddedId()
  const cache = new KvCache(id)
  const hidden = await embedTokens(id, [1])
  await t.throwsAsync(forwardLayer(id, 0, hidden, 1, cache), {
    code: 'ERR_REALM_INVALID_ARGUMENT',
    message: /position/,
  })
  await forwardLayer(id, 0, hidden, 0, cache)
  await t.throwsAsync(forwardLayer(id, 0, hidden, 0, cache), {
    code: 'ERR_REALM_INVALID_ARGUMENT',
    message: /position/,
  })
  await t.notThrowsAsync(forwardLayer(id, 0, hidden, 1, cache))
})

test('a cache holds no more than maxTokens', async (t) => {
  const id = await embeddedId()
  const cache = new KvCache(id, { maxTokens: 3 })
  await forward(id, Uint32Array.of(1, 305, 299), 0, cache)
  const hidden = await embedTokens(id, [1])
  await t.throwsAsync(forwardLayer(id, 0, hidden, 3, cache), { code: 'ERR_REALM_CONTEXT_OVERFLOW' })
  t.is(cache.length, 3)
})

test('a disposed cache is an error to use and may be disposed again', async (t) => {
  const id = await embeddedId()
  const hidden = await embedTokens(id, [1])
  let kept: KvCache
  {
    using cache = new KvCache(id)
    await forwardLayer(id, 0, hidden, 0, cache)
    kept = cache
  }
  await t.throwsAsync(forwardLayer(id, 0, hidden, 0, kept), { code: 'ERR_REALM_INVALID_ARGUMENT', message: /disposed/ })
  t.throws(() => kept.truncate(0), { code: 'ERR_REALM_INVALID_ARGUMENT', message: /disposed/ })
  t.throws(() => kept.fork(), { code: 'ERR_REALM_INVALID_ARGUMENT', message: /disposed/ })
  t.notThrows(() => kept.dispose())
})

test('a cache may be disposed or collected while work runs on it', async (t) => {
  const id = await embeddedId()
  const hidden = await embedTokens(id, await tokenize(id, text))
  const cache = new KvCache(id)
  const running = forwardLayer(id, 0, hidden, 0, cache)
  cache.dispose()
  // Either the layer came first or the disposal did; both are fine, a crash is not.
  await running.catch((error) => t.is(error.code, 'ERR_REALM_INVALID_ARGUMENT'))
  const forgotten = forwardLayer(id, 0, hidden, 0, new KvCache(id))
  t.true(await collectGarbageUntil(() => true))
  same(t, await forgotten, await forwardLayer(id, 0, hidden, 0, new KvCache(id)))
})
