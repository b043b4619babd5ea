// The byte budget of key/value caches: never exceeded, and a reason to wait, not to fail.
import test from 'ava'
import {
  configure,
  embedTokens,
  forwardLayer,
  type GenerateOptions,
  generate,
  generateStream,
  getStats,
  KvCache,
  storeModel,
  systemInfo,
} from '../index.js'
import { embeddedId, fixture } from './helpers.js'
import { collect, endless, greedy, join, rejection } from './support.js'

const tokens = (seed: number, length: number): number[] =>
  Array.from({ length }, (_, i) => 300 + ((seed * 31 + i * (seed + 3)) % 1700))

const some: GenerateOptions = { ...greedy, ignoreEos: true, maxTokens: 60 }

/** A budget of some pages of a model, with nothing in it. */
async function allow(id: string, pages: number): Promise<number> {
  configure({ cacheBytes: 0 }) // forgets what nobody uses, soon
  while (systemInfo().cacheUsedBytes > 0) await new Promise((resolve) => setTimeout(resolve, 1))
  const cacheBytes = pages * getStats(id).pageBytes
  configure({ cacheBytes })
  return cacheBytes
}

const { cacheBytes } = systemInfo()
test.afterEach(() => configure({ cacheBytes, maxQueued: 1024 }))

test.serial('a request that can never fit is refused, with the budget as it was', async (t) => {
  const id = await embeddedId()
  await allow(id, 2)
  const error = await t.throwsAsync(generate(id, tokens(1, 200), some), { code: 'ERR_REALM_OUT_OF_MEMORY' })
  t.regex(error.message, /cacheBytes/)
  t.is(systemInfo().cacheUsedBytes, 0)
  // One that outgrows the budget ends with what it has written.
  const stream = generateStream(id, tokens(1, 100), endless)
  t.like(await rejection(collect(stream)), { code: 'ERR_REALM_OUT_OF_MEMORY' })
  t.is((await generate(id, tokens(1, 20), some)).tokens.length, 60)
})

test.serial('a request that just fits runs, also where what is known of it takes up the room', async (t) => {
  const id = await embeddedId()
  const prompt = tokens(3, 100)
  const options = { ...some, maxTokens: 27 }
  const shifting: GenerateOptions = { ...greedy, ignoreEos: true, maxTokens: 700, overflow: 'shift' }
  const expected = (await generate(id, prompt, options)).tokens
  const shifted = (await generate(id, prompt, shifting)).tokens
  for (const pages of [2, 3, 8]) {
    await allow(id, pages)
    for (let i = 0; i < 3; i++) t.deepEqual((await generate(id, prompt, options)).tokens, expected)
    // Another end of the same beginning: part of a page is shared.
    await generate(id, [...prompt.slice(0, 70), 5, 6], options)
  }
  for (let i = 0; i < 3; i++) t.deepEqual((await generate(id, prompt, shifting)).tokens, shifted)
  t.is((await generate(id, tokens(3, 505), { ...some, maxTokens: 5 })).tokens.length, 5)
  for (let i = 0; i < 2; i++) t.deepEqual((await generate(id, prompt, shifting)).tokens, shifted)
})

test.serial('requests that do not fit together wait for each other', async (t) => {
  const id = await embeddedId()
  const asked = Array.from({ length: 12 }, (_, i) => tokens(i, 40 + 15 * i))
  const expected = []
  for (const prompt of asked) expected.push((await generate(id, prompt, some)).tokens)
  for (const pages of [5, 7, 12]) {
    const limit = await allow(id, pages)
    let worst = 0
    const timer = setInterval(() => {
      worst = Math.max(worst, systemInfo().cacheUsedBytes)
    }, 1)
    const answers = await Promise.all(
      asked.map((prompt, priority) => generate(id, prompt, { ...some, priority: priority % 2 })),
    )
    clearInterval(timer)
    t.deepEqual(
      answers.map((answer) => answer.tokens),
      expected,
      `${pages} pages`,
    )
    t.true(worst <= limit)
  }
  t.true(getStats(id).preempted > 0)
})

test.serial('a reader who is behind gives its memory to others, and misses nothing', async (t) => {
  const id = await embeddedId()
  const long: GenerateOptions = { ...greedy, ignoreEos: true, maxTokens: 400 }
  const expected = (await generate(id, tokens(5, 30), long)).tokens
  await allow(id, 8)
  const stream = generateStream(id, tokens(5, 30), long)
  const first = await stream.next()
  t.false(first.done)
  // Far more than fits beside it.
  for (let i = 0; i < 3; i++) t.is((await generate(id, tokens(6 + i, 300), some)).tokens.length, 60)
  const rest = await collect(stream)
  t.deepEqual(join([first.value as never, ...rest]).tokens, expected)
})

test.serial('two models share one budget, and a paused reader on one does not stop the other', async (t) => {
  const id = await embeddedId()
  const other = await storeModel(fixture('stories260K', 'stories260K-q8_0.gguf'))
  const fresh = await Promise.all([
    generate(id, tokens(1, 200), some),
    generate(other, [1, 300, 301], { ...some, maxTokens: 100 }),
  ])
  await allow(id, 6)
  const paused = generateStream(other, [1, 300, 301], { ...greedy, ignoreEos: true, maxTokens: 500, overflow: 'shift' })
  await paused.next()
  for (let round = 0; round < 5; round++) {
    const answers = await Promise.all([
      generate(id, tokens(1, 200), some),
      generate(other, [1, 300, 301], { ...some, maxTokens: 100 }),
      generate(id, tokens(1, 200), some),
    ])
    t.deepEqual(answers[0].tokens, fresh[0].tokens)
    t.deepEqual(answers[1].tokens, fresh[1].tokens)
    t.deepEqual(answers[2].tokens, fresh[0].tokens)
  }
  await paused.return()
})

test.serial('what a KvCache holds is not waited for, and comes back when it is disposed', async (t) => {
  const id = await embeddedId()
  await allow(id, 4)
  const cache = new KvCache(id)
  const hidden = await embedTokens(id, tokens(1, 130))
  await forwardLayer(id, 0, hidden, 0, cache)
  await t.throwsAsync(generate(id, tokens(2, 100), some), { code: 'ERR_REALM_OUT_OF_MEMORY' })
  await t.throwsAsync(forwardLayer(id, 0, hidden, 130, cache), { code: 'ERR_REALM_OUT_OF_MEMORY' })
  t.is(cache.length, 0)
  cache.dispose()
  t.is((await generate(id, tokens(2, 100), some)).tokens.length, 60)
})

test.serial('old prefixes make room for new requests', async (t) => {
  const id = await embeddedId()
  await allow(id, 10)
  const before = getStats(id).pagesEvicted
  for (let i = 0; i < 12; i++) await generate(id, tokens(i, 100), { ...some, maxTokens: 2 })
  const { pagesEvicted, pagesCached, pagesUsed } = getStats(id)
  t.true(pagesEvicted > before)
  t.true(pagesCached <= 10 && pagesUsed <= 10)
  t.is((await generate(id, tokens(11, 100), some)).usage.cachedTokens, 99)
  t.is((await generate(id, tokens(0, 100), some)).usage.cachedTokens, 0)
})

test.serial('a full queue refuses, and only while it is full', async (t) => {
  const id = await embeddedId()
  configure({ maxQueued: 3 })
  t.is(systemInfo().maxQueued, 3)
  const controllers = Array.from({ length: 64 + 3 }, () => new AbortController())
  const taken = controllers.map(({ signal }) => rejection(generate(id, [5], { ...endless, signal })))
  await t.throwsAsync(generate(id, [5], some), { code: 'ERR_REALM_QUEUE_FULL', message: /maxQueued/ })
  const stream = generateStream(id, [5], some)
  await t.throwsAsync(stream.next(), { code: 'ERR_REALM_QUEUE_FULL' })
  t.true((await stream.next()).done)
  for (const controller of controllers) controller.abort(new Error('enough'))
  await Promise.all(taken)
  // Cancelled requests leave with the step that runs.
  let answer: unknown
  while (answer === undefined) {
    answer = await generate(id, [5], some).catch((error) => t.is(error.code, 'ERR_REALM_QUEUE_FULL') && undefined)
  }
  t.like(answer as object, { finishReason: 'length' })
})
