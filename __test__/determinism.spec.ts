// The same request has the same answer, to the last bit of every log probability: alone, among others, with its prompt
// fresh or cached or cut anywhere, on any number of threads and on every instruction set.
import { createHash } from 'node:crypto'
import test from 'ava'
import { configure, type GenerateOptions, type Generation, generate, systemInfo } from '../index.js'
import { embeddedId, run } from './helpers.js'
import { greedy, question } from './support.js'

type Request = [prompt: string | number[] | typeof question, options: GenerateOptions]

const long = Array.from({ length: 300 }, (_, i) => 300 + ((i * 37) % 1500))

const requests: Request[] = [
  [question, { ...greedy, logprobs: 8 }],
  ['Once upon a time', { seed: 7, maxTokens: 40, logprobs: 3 }],
  ['Monday, Tuesday,', { ...greedy, maxTokens: 80, ignoreEos: true, logprobs: 8, kvType: 'f32' }],
  ['Monday, Tuesday,', { ...greedy, maxTokens: 80, ignoreEos: true, logprobs: 8, kvType: 'q8_0' }],
  [long, { seed: 1, temperature: 1.5, maxTokens: 20, ignoreEos: true, logprobs: 8 }],
  // Past the end of the context, twice.
  [long, { ...greedy, maxTokens: 600, ignoreEos: true, logprobs: 1, overflow: 'shift' }],
  [long.slice(0, 130), { ...greedy, maxTokens: 70, ignoreEos: true, logprobs: 1, repeatPenalty: 1.3 }],
]

/** All that must not change. Log probabilities are strictly growing functions of logits. */
function essence({ text, tokens, logprobs, finishReason }: Generation): string {
  return createHash('sha256')
    .update(JSON.stringify([text, [...tokens], logprobs, finishReason]))
    .digest('hex')
}

async function ask(id: string, [prompt, options]: Request, more: GenerateOptions = {}): Promise<string> {
  return essence(await generate(id, prompt, { ...options, ...more }))
}

async function alone(id: string, more: GenerateOptions = {}): Promise<string[]> {
  const answers: string[] = []
  for (const request of requests) answers.push(await ask(id, request, more))
  return answers
}

test.serial('alone and fresh, on any number of threads', async (t) => {
  const id = await embeddedId()
  const { threads } = systemInfo()
  const expected = await alone(id, { cachePrompt: false })
  for (const n of [1, 2, 3]) {
    configure({ threads: n })
    t.deepEqual(await alone(id, { cachePrompt: false }), expected, `${n} threads`)
  }
  configure({ threads })
})

test.serial('among sixteen others, with and without their pages', async (t) => {
  const id = await embeddedId()
  const expected = await alone(id, { cachePrompt: false })
  for (const cachePrompt of [false, true]) {
    const others = Array.from({ length: 16 }, (_, i) => {
      const prompt = [...long.slice(0, 20 * i), 300 + i]
      return generate(id, prompt, { seed: i, maxTokens: 10 + 5 * i, ignoreEos: true, cachePrompt, priority: i % 3 })
    })
    const answers = requests.map((request) => ask(id, request, { cachePrompt }))
    t.deepEqual(await Promise.all(answers), expected, `cachePrompt: ${cachePrompt}`)
    await Promise.all(others)
  }
})

test.serial('with the prompt known up to any token', async (t) => {
  const id = await embeddedId()
  const request: Request = [long, { ...greedy, maxTokens: 5, ignoreEos: true, logprobs: 8 }]
  const expected = await ask(id, request, { cachePrompt: false })
  for (const known of [1, 2, 63, 64, 65, 100, 127, 128, 192, 250, 298, 299]) {
    // A first token that only this round has keeps the rounds apart.
    const prompt = [400 + known, ...long.slice(1)]
    const fresh = await ask(id, [prompt, request[1]], { cachePrompt: false })
    await generate(id, [...prompt.slice(0, known), 5], { ...greedy, maxTokens: 1 })
    const { usage, ...answer } = await generate(id, prompt, request[1])
    t.is(usage.cachedTokens, known)
    t.is(essence({ usage, ...answer }), fresh, `${known} tokens known`)
  }
  t.is(await ask(id, request), expected)
})

test.serial('on every instruction set that this machine has', async (t) => {
  const id = await embeddedId()
  const expected = await alone(id)
  const script = `
    const { createHash } = require('node:crypto')
    const essence = ${essence.toString()}
    realm.configure({ threads: 2 })
    realm.storeModel(realm.embeddedModel).then(async (id) => {
      const all = ${JSON.stringify(requests)}.map(([prompt, options]) => realm.generate(id, prompt, options))
      console.log(JSON.stringify((await Promise.all(all)).map(essence)))
    })`
  const tiers = systemInfo().availableInstructionSets
  t.true(tiers.includes('scalar'))
  for (const tier of tiers) {
    const { stdout, stderr } = await run(script, { REALM_ISA: tier })
    t.deepEqual(JSON.parse(stdout || `"${stderr}"`), expected, tier)
  }
})
