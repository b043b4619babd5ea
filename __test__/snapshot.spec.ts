// A KvCache as bytes and back.
import test from 'ava'
import { embedTokens, forwardLayer, getModelInfo, KvCache, storeModel } from '../index.js'
import { embeddedId, fixture } from './helpers.js'
import { noModel } from './support.js'

const tokens = Array.from({ length: 100 }, (_, i) => 300 + i)

async function forward(id: string, ids: number[], position: number, cache: KvCache): Promise<Float32Array> {
  let hidden = await embedTokens(id, ids)
  const { layerCount } = getModelInfo(id)
  for (let layer = 0; layer < layerCount; layer++) hidden = await forwardLayer(id, layer, hidden, position, cache)
  return hidden
}

for (const type of ['f32', 'f16', 'q8_0'] as const) {
  test(`a saved cache goes on where it was (${type})`, async (t) => {
    const id = await embeddedId()
    const cache = new KvCache(id, { type, maxTokens: 200 })
    await forward(id, tokens, 0, cache)
    const bytes = await cache.save()
    const expected = await forward(id, [5, 6], 100, cache)
    const loaded = await KvCache.load(id, bytes)
    t.is(loaded.length, 100)
    t.deepEqual(await loaded.save(), bytes)
    t.deepEqual(await forward(id, [5, 6], 100, loaded), expected)
    await t.throwsAsync(forward(id, tokens, 102, loaded), { code: 'ERR_REALM_CONTEXT_OVERFLOW' })
    // The same content gives the same bytes, whatever was there before.
    cache.truncate(100)
    t.deepEqual(await cache.save(), bytes)
  })
}

test('saving takes what every layer holds, also while a layer runs', async (t) => {
  const id = await embeddedId()
  const cache = new KvCache(id)
  await forward(id, tokens, 0, cache)
  const bytes = await cache.save()
  const running = forwardLayer(id, 0, await embedTokens(id, tokens), 100, cache)
  t.deepEqual(await cache.save(), bytes)
  await running
  t.deepEqual(await cache.save(), bytes)
  t.is((await KvCache.load(id, await new KvCache(id).save())).length, 0)
})

test('a fork shares memory until one of the two changes', async (t) => {
  const id = await embeddedId()
  const cache = new KvCache(id)
  await forward(id, tokens, 0, cache)
  const forks = Array.from({ length: 50 }, () => cache.fork())
  const bytes = await cache.save()
  await forward(id, [9], 100, forks[0])
  t.deepEqual(await forks[1].save(), bytes)
  for (const fork of forks) fork.dispose()
  t.deepEqual(await cache.save(), bytes)
})

test('damaged bytes are an error', async (t) => {
  const id = await embeddedId()
  const cache = new KvCache(id)
  await forward(id, tokens.slice(0, 3), 0, cache)
  const bytes = await cache.save()
  const bad = { code: 'ERR_REALM_BAD_SNAPSHOT' }
  for (const length of [0, 1, 63, 64, 79, 80, bytes.length - 1]) {
    await t.throwsAsync(KvCache.load(id, bytes.slice(0, length)), bad)
  }
  for (let i = 0; i < 100; i++) {
    const flipped = bytes.slice()
    flipped[Math.floor((bytes.length * i) / 100)] ^= 1 << (i % 8)
    await t.throwsAsync(KvCache.load(id, flipped), bad)
  }
  t.is((await KvCache.load(id, bytes)).length, 3)
})

test('another model, no bytes, no cache: errors', async (t) => {
  const id = await embeddedId()
  const other = await storeModel(fixture('stories260K', 'stories260K-q8_0.gguf'))
  const cache = new KvCache(id)
  const bytes = await cache.save()
  await t.throwsAsync(KvCache.load(other, bytes), { code: 'ERR_REALM_BAD_SNAPSHOT', message: /made with model/ })
  await t.throwsAsync(KvCache.load(noModel, bytes), { code: 'ERR_REALM_MODEL_NOT_FOUND' })
  for (const wrong of [undefined, 'x', [1], new Float32Array(4)]) {
    await t.throwsAsync(KvCache.load(id, wrong as never), { code: 'ERR_REALM_INVALID_ARGUMENT', message: /bytes/ })
  }
  cache.dispose()
  await t.throwsAsync(cache.save(), { code: 'ERR_REALM_INVALID_ARGUMENT', message: /disposed/ })
})
