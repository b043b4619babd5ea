// What `generate` answers, and what its options do.
import test from 'ava'
import { detokenize, type GenerateOptions, generate, tokenize } from '../index.js'
import { embeddedId } from './helpers.js'
import { answer, greedy, question } from './support.js'

const story = 'Once upon a time'
const days = 'Monday, Tuesday, Wednesday,'
const restOfWeek = ' Thursday, Friday, Saturday, Sunday'

test('the capital of France is Paris', async (t) => {
  const id = await embeddedId()
  const { text, tokens, finishReason, usage, timings, seed, ...rest } = await generate(id, question, greedy)
  t.is(text, answer)
  t.deepEqual(tokens, Uint32Array.of(305, 299, 283, 1160, 276, 351, 1903, 17))
  t.is(finishReason, 'stop')
  t.is(usage.promptTokens, 16)
  t.true(usage.cachedTokens >= 0 && usage.cachedTokens <= usage.promptTokens)
  t.is(usage.completionTokens, tokens.length)
  for (const time of ['queueMs', 'promptMs', 'generateMs', 'firstTokenMs'] as const) {
    t.true(Number.isFinite(timings[time]) && timings[time] >= 0, time)
  }
  t.true(Number.isSafeInteger(seed))
  t.deepEqual(rest, {})
})

test('text, tokens and an array of tokens are the same prompt', async (t) => {
  const id = await embeddedId()
  const tokens = await tokenize(id, days)
  for (const prompt of [days, tokens, [...tokens]]) {
    const generation = await generate(id, prompt, { ...greedy, maxTokens: 16 })
    t.is(generation.text, restOfWeek)
    t.is(generation.usage.promptTokens, tokens.length)
  }
})

test('a conversation is answered in its context', async (t) => {
  const id = await embeddedId()
  const messages = [
    { role: 'user', content: 'What is the capital of Japan?' },
    { role: 'assistant', content: 'The capital of Japan is Tokyo.' },
    { role: 'user', content: 'And its currency?' },
  ]
  t.is((await generate(id, messages, greedy)).text, 'The currency of Japan is the yen.')
})

test('control tokens that are written in a prompt stay text', async (t) => {
  const id = await embeddedId()
  const { usage } = await generate(id, '<|im_end|>', { ...greedy, maxTokens: 1 })
  t.is(usage.promptTokens, (await tokenize(id, '<|im_end|>')).length)
})

test('control tokens that are written in a message stay text', async (t) => {
  const id = await embeddedId()
  const count = async (content: string) => {
    const { usage } = await generate(id, [{ role: 'user', content }], { ...greedy, maxTokens: 1 })
    return usage.promptTokens
  }
  // The same messages around it; the marker itself is as many tokens as it has as text.
  const asText = (await tokenize(id, '<|im_end|>', { addSpecial: false })).length
  t.true(asText > 1)
  t.is((await count('<|im_end|>')) - (await count('')), asText)
})

test('maxTokens ends an answer', async (t) => {
  const id = await embeddedId()
  for (const maxTokens of [0, 1, 2, 5]) {
    const { tokens, text, finishReason, usage } = await generate(id, days, { ...greedy, maxTokens })
    t.is(tokens.length, maxTokens)
    t.is(usage.completionTokens, maxTokens)
    t.is(finishReason, 'length')
    t.true(restOfWeek.startsWith(text))
    t.is(text, await detokenize(id, tokens))
  }
})

test('without maxTokens an answer ends with the context', async (t) => {
  const id = await embeddedId()
  const { finishReason, usage } = await generate(id, story, { ...greedy, ignoreEos: true })
  t.is(finishReason, 'length')
  t.true(usage.promptTokens + usage.completionTokens >= 511 && usage.promptTokens + usage.completionTokens <= 513)
})

test('every piece of the answer works as a stop string, wherever tokens begin and end', async (t) => {
  const id = await embeddedId()
  const stops = new Set<string>()
  for (const length of [1, 3, 7, 12]) {
    for (let i = 0; i + length <= restOfWeek.length; i++) stops.add(restOfWeek.slice(i, i + length))
  }
  for (const stop of stops) {
    const { text, finishReason } = await generate(id, days, { ...greedy, maxTokens: 16, stop })
    t.is(text, restOfWeek.slice(0, restOfWeek.indexOf(stop)), JSON.stringify(stop))
    t.is(finishReason, 'stop')
  }
})

test('of several stop strings the first to occur counts, and those that do not occur do nothing', async (t) => {
  const id = await embeddedId()
  const withStop = async (stop: string[]): Promise<string> =>
    (await generate(id, days, { ...greedy, maxTokens: 16, stop })).text
  t.is(await withStop(['Sunday', 'Sat', 'xyz', 'Friday']), ' Thursday, ')
  t.is(await withStop(['Sundays', 'Fridayx', 'xyz']), restOfWeek)
  t.is(await withStop([]), restOfWeek)
})

test('the same seed gives the same answer, and the result tells the seed', async (t) => {
  const id = await embeddedId()
  const hot: GenerateOptions = { temperature: 2, topK: 0, topP: 1, minP: 0, maxTokens: 24, ignoreEos: true }
  const sample = (seed?: number): ReturnType<typeof generate> => generate(id, story, { ...hot, seed })
  const [a, b, c] = await Promise.all([sample(42), sample(42), sample(43)])
  t.is(a.seed, 42)
  t.deepEqual(a.tokens, b.tokens)
  t.notDeepEqual(a.tokens, c.tokens)

  const [random, other] = await Promise.all([sample(), sample()])
  t.not(random.seed, other.seed)
  t.true(Number.isSafeInteger(random.seed))
  t.deepEqual((await sample(random.seed)).tokens, random.tokens)
  t.is((await sample(Number.MAX_SAFE_INTEGER)).seed, Number.MAX_SAFE_INTEGER)
  t.is((await sample(0)).seed, 0)
})

test('a choice that leaves one token is greedy', async (t) => {
  const id = await embeddedId()
  const expected = (await generate(id, story, { ...greedy, maxTokens: 12 })).tokens
  for (const options of [{ topK: 1 }, { topP: 0 }, { minP: 1 }]) {
    const { tokens } = await generate(id, story, { temperature: 1.5, ...options, maxTokens: 12, seed: 1 })
    t.deepEqual(tokens, expected, JSON.stringify(options))
  }
})

test('logprobs tells how likely each token was', async (t) => {
  const id = await embeddedId()
  for (const n of [0, 1, 5]) {
    const { tokens, logprobs } = await generate(id, days, { ...greedy, maxTokens: 4, logprobs: n })
    t.is(logprobs?.length, tokens.length)
    for (const [i, { token, logprob, top }] of (logprobs ?? []).entries()) {
      t.is(token, tokens[i])
      t.true(logprob <= 0)
      t.is(top.length, n)
      if (n > 0) t.deepEqual(top[0], { token, logprob })
      t.true(top.every((candidate, rank) => candidate.logprob <= (top[rank - 1]?.logprob ?? 0)))
    }
  }
  t.false('logprobs' in (await generate(id, days, { ...greedy, maxTokens: 1 })))
})

test('logprobs asked for beyond the vocabulary are all there are', async (t) => {
  const id = await embeddedId()
  const { logprobs } = await generate(id, days, { ...greedy, maxTokens: 1, logprobs: 1_000_000 })
  const top = logprobs?.[0].top ?? []
  t.is(top.length, 2048)
  const sum = top.reduce((total, { logprob }) => total + Math.exp(logprob), 0)
  t.true(Math.abs(sum - 1) < 1e-3, `probabilities add up to ${sum}`)
})

test('logitBias bans and forces tokens', async (t) => {
  const id = await embeddedId()
  const first = async (logitBias: Record<number, number>): Promise<number> =>
    (await generate(id, question, { ...greedy, maxTokens: 1, logitBias })).tokens[0]
  t.is(await first({}), 305)
  t.not(await first({ 305: Number.NEGATIVE_INFINITY }), 305)
  t.is(await first({ 1234: 1000 }), 1234)
  t.is(await first({ 1234: 1000, 1235: 2000 }), 1235)
})

test('penalties keep tokens from coming back', async (t) => {
  const id = await embeddedId()
  const base = { ...greedy, ignoreEos: true, maxTokens: 60, penaltyLastN: -1 }
  const repeated = async (options: GenerateOptions): Promise<number> => {
    const { tokens } = await generate(id, story, { ...base, ...options })
    return tokens.length - new Set(tokens).size
  }
  t.true((await repeated({})) > 0)
  t.is(await repeated({ presencePenalty: 1000 }), 0)
  t.is(await repeated({ frequencyPenalty: 1000 }), 0)
  // Beyond the last n tokens nothing is remembered.
  t.is(await repeated({ presencePenalty: 1000, penaltyLastN: 0 }), await repeated({}))
  const { tokens: plain } = await generate(id, story, base)
  const { tokens: penalised } = await generate(id, story, { ...base, repeatPenalty: 5 })
  t.notDeepEqual(penalised, plain)
})

test('ignoreEos goes on after the end', async (t) => {
  const id = await embeddedId()
  const { tokens, finishReason } = await generate(id, question, { ...greedy, ignoreEos: true, maxTokens: 20 })
  t.is(tokens.length, 20)
  t.is(finishReason, 'length')
  t.is((await detokenize(id, tokens)).slice(0, answer.length), answer)
})

test('a prompt that does not fit is refused unless it may be shifted', async (t) => {
  const id = await embeddedId()
  const long = new Uint32Array(600).fill(305)
  await t.throwsAsync(generate(id, long, { ...greedy, maxTokens: 4 }), {
    code: 'ERR_REALM_CONTEXT_OVERFLOW',
    message: /512/,
  })
  const shifted = await generate(id, long, { ...greedy, maxTokens: 4, ignoreEos: true, overflow: 'shift' })
  t.is(shifted.tokens.length, 4)
})

test('overflow: shift writes beyond the context', async (t) => {
  const id = await embeddedId()
  const { tokens, finishReason } = await generate(id, story, {
    ...greedy,
    ignoreEos: true,
    overflow: 'shift',
    maxTokens: 600,
  })
  t.is(tokens.length, 600)
  t.is(finishReason, 'length')
})

test('a token that the vocabulary does not have is refused', async (t) => {
  const id = await embeddedId()
  await t.throwsAsync(generate(id, [1, 2048]), { code: 'ERR_REALM_INVALID_ARGUMENT', message: /2048/ })
})

test('keys and values may be stored in any format', async (t) => {
  const id = await embeddedId()
  for (const kvType of ['f32', 'f16', 'q8_0'] as const) {
    t.is((await generate(id, question, { ...greedy, kvType })).text, answer)
  }
})

test('many requests at once get the answers that they get alone', async (t) => {
  const id = await embeddedId()
  const countries = {
    France: 'Paris',
    Japan: 'Tokyo',
    Kenya: 'Nairobi',
    Norway: 'Oslo',
    Spain: 'Madrid',
    Italy: 'Rome',
  }
  const asked = Object.entries({ ...countries, ...countries })
  const texts = await Promise.all(
    asked.map(async ([country], priority) => {
      const messages = [{ role: 'user', content: `What is the capital of ${country}?` }]
      return (await generate(id, messages, { ...greedy, priority })).text
    }),
  )
  t.deepEqual(
    texts,
    asked.map(([country, capital]) => `The capital of ${country} is ${capital}.`),
  )
})
