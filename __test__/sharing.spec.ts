// Requests with the same first tokens share the work for them.
import test from 'ava'
import { type GenerateOptions, generate, generateStream, getStats } from '../index.js'
import { embeddedId } from './helpers.js'
import { collect, endless, greedy, join, rejection } from './support.js'

/** Tokens that no other test uses: the first is the seed's. */
function prompt(seed: number, length: number): number[] {
  return Array.from({ length }, (_, i) => 300 + ((i === 0 ? seed : seed * i * i + 7 * i) % 1700))
}

const few: GenerateOptions = { ...greedy, ignoreEos: true, maxTokens: 4 }

test('what is known is not computed again, to the token', async (t) => {
  const id = await embeddedId()
  const tokens = prompt(1, 150)
  const first = await generate(id, tokens, few)
  t.is(first.usage.cachedTokens, 0)
  const again = await generate(id, tokens, few)
  // All but the last token, whose logits are needed.
  t.is(again.usage.cachedTokens, 149)
  t.deepEqual(again.tokens, first.tokens)
  // The next turn of a conversation begins where the answer ended; the last token of an answer is never computed.
  const turn = await generate(id, [...tokens, ...first.tokens, 305], few)
  t.is(turn.usage.cachedTokens, 153)
  t.deepEqual(
    turn.tokens,
    (await generate(id, [...tokens, ...first.tokens, 305], { ...few, cachePrompt: false })).tokens,
  )
  const other = [...tokens.slice(0, 100), 5, 6]
  t.is((await generate(id, other, few)).usage.cachedTokens, 100)
})

test('each format of keys and values has its own', async (t) => {
  const id = await embeddedId()
  const tokens = prompt(2, 100)
  await generate(id, tokens, { ...few, kvType: 'f32' })
  t.is((await generate(id, tokens, { ...few, kvType: 'q8_0' })).usage.cachedTokens, 0)
  t.is((await generate(id, tokens, { ...few, kvType: 'f32' })).usage.cachedTokens, 99)
})

test('cachePrompt: false takes nothing and leaves nothing', async (t) => {
  const id = await embeddedId()
  const tokens = prompt(3, 100)
  await generate(id, tokens, { ...few, cachePrompt: false })
  t.is((await generate(id, tokens, few)).usage.cachedTokens, 0)
  t.is((await generate(id, tokens, { ...few, cachePrompt: false })).usage.cachedTokens, 0)
})

test('a request that is still running shares what it has', async (t) => {
  const id = await embeddedId()
  const tokens = prompt(4, 90)
  const stream = generateStream(id, tokens, endless)
  await stream.next()
  t.is((await generate(id, [...tokens, 5], few)).usage.cachedTokens, 90)
  await stream.return()
})

test('requests that come together compute what they share once', async (t) => {
  const id = await embeddedId()
  const shared = prompt(5, 200)
  const prompts = Array.from({ length: 8 }, (_, i) => [...shared, ...prompt(100 + i, 10)])
  const fresh = []
  for (const tokens of prompts) fresh.push((await generate(id, tokens, { ...few, cachePrompt: false })).tokens)
  const answers = await Promise.all(prompts.map((tokens) => generate(id, tokens, few)))
  t.deepEqual(
    answers.map(({ tokens }) => tokens),
    fresh,
  )
  // Whichever comes first computes for all.
  const cached = answers.map(({ usage }) => usage.cachedTokens).sort((a, b) => a - b)
  t.deepEqual(cached, [0, 200, 200, 200, 200, 200, 200, 200])
})

test('what a cancelled request brought goes with it, what others left stays', async (t) => {
  const id = await embeddedId()
  const tokens = prompt(6, 130)
  const longer = [...tokens, ...prompt(60, 130)]
  await generate(id, tokens, few)
  for await (const _ of generateStream(id, longer, endless)) break
  const controller = new AbortController()
  const running = generate(id, longer, { ...endless, signal: controller.signal })
  await generate(id, [5], few)
  controller.abort()
  await rejection(running)
  // By the time that another request has an answer, the cancelled ones have left.
  await generate(id, [5], few)
  t.is((await generate(id, longer, few)).usage.cachedTokens, 130)
})

test('many readers of one prefix, some of which leave', async (t) => {
  const id = await embeddedId()
  const shared = prompt(7, 140)
  const answer = (i: number, options: GenerateOptions): Promise<{ tokens: Uint32Array }> =>
    generate(id, [...shared, 310 + i], { ...greedy, ignoreEos: true, maxTokens: 30, ...options })
  const fresh = await Promise.all(Array.from({ length: 6 }, (_, i) => answer(i, { cachePrompt: false })))
  const leaving = Array.from({ length: 6 }, (_, i) => generateStream(id, [...shared, 310 + i], endless))
  const streams = Array.from({ length: 6 }, (_, i) =>
    collect(generateStream(id, [...shared, 310 + i], { ...greedy, ignoreEos: true, maxTokens: 30 })),
  )
  for (const stream of leaving) {
    await stream.next()
    await stream.return()
  }
  for (const [i, chunks] of (await Promise.all(streams)).entries()) t.deepEqual(join(chunks).tokens, fresh[i].tokens)
  t.true(getStats(id).cachedTokens > 0)
})
