// Models with recurrent layers: the same answers whatever is cached, where a request can go on from, and what a state
// that holds all positions in one cannot do.
import { writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import {
  computeLogits,
  configure,
  embedTokens,
  forwardLayer,
  type GenerateOptions,
  generate,
  getModelInfo,
  getStats,
  inspect,
  KvCache,
  removeModel,
  storeModel,
  systemInfo,
} from '../index.js'
import { family } from './families.js'
import { run } from './helpers.js'
import { argmax, lastRow } from './support.js'

const architectures = ['lfm2', 'lfm2moe', 'qwen35', 'qwen35moe']
const options: GenerateOptions = { temperature: 0, maxTokens: 20, logprobs: 8 }

/** A prompt; others differ from the `from`th token on. */
function prompt(length: number, from = length, seed = 0): number[] {
  return Array.from({ length }, (_, i) => (i < from ? i * i + 3 * i : i * 7 + seed) % 37)
}

async function forward(id: string, ids: number[], position: number, cache?: KvCache): Promise<Float32Array> {
  let hidden = await embedTokens(id, ids)
  const { layerCount } = getModelInfo(id)
  for (let layer = 0; layer < layerCount; layer++) hidden = await forwardLayer(id, layer, hidden, position, cache)
  return hidden
}

for (const architecture of architectures) {
  /** Runs with a model that nothing was asked of before. */
  async function fresh<T>(body: (id: string) => Promise<T>): Promise<T> {
    const id = await storeModel(family(architecture))
    try {
      return await body(id)
    } finally {
      removeModel(id)
    }
  }

  const ask = async (id: string, tokens: number[], more: GenerateOptions = {}) => {
    const { usage, tokens: answer, logprobs, finishReason } = await generate(id, tokens, { ...options, ...more })
    return { cached: usage.cachedTokens, essence: JSON.stringify([[...answer], logprobs, finishReason]), answer }
  }

  test.serial(
    `${architecture}: the same answer alone, among others, cached and on any number of threads`,
    async (t) => {
      const prompts = [
        prompt(1),
        prompt(63),
        prompt(64),
        prompt(65),
        prompt(200),
        prompt(200, 130, 1),
        prompt(150, 20, 2),
      ]
      const alone = await fresh(async (id) => {
        const answers: string[] = []
        for (const tokens of prompts) answers.push((await ask(id, tokens, { cachePrompt: false })).essence)
        return answers
      })
      const { threads } = systemInfo()
      for (const n of [1, 3]) {
        configure({ threads: n })
        for (const cachePrompt of [false, true]) {
          await fresh(async (id) => {
            for (let round = 0; round < 3; round++) {
              const answers = await Promise.all(prompts.map((tokens) => ask(id, tokens, { cachePrompt })))
              t.deepEqual(
                answers.map(({ essence }) => essence),
                alone,
                `${n} threads, cachePrompt ${cachePrompt}, round ${round}`,
              )
            }
          })
        }
      }
      configure({ threads })
    },
  )

  test.serial(`${architecture}: a request goes on from the last state on its way`, async (t) => {
    await fresh(async (id) => {
      const first = await ask(id, prompt(200))
      t.is(first.cached, 0)
      // The same again: from the last whole page before the end of the prompt.
      const again = await ask(id, prompt(200))
      t.deepEqual([again.cached, again.essence], [192, first.essence])
      // A conversation: from the end of the answer, whose last token nobody has computed yet.
      const longer = [...prompt(200), ...first.answer, 1, 2, 3]
      const expected = await ask(id, longer, { cachePrompt: false })
      const found = await ask(id, longer)
      t.deepEqual([found.cached, found.essence], [200 + first.answer.length - 1, expected.essence])
    })
    await fresh(async (id) => {
      // What two have in common is of use to the third.
      const cached: number[] = []
      for (const seed of [1, 2, 3, 4]) {
        const tokens = prompt(180, 150, seed)
        const expected = await ask(id, tokens, { cachePrompt: false })
        const found = await ask(id, tokens)
        t.is(found.essence, expected.essence)
        cached.push(found.cached)
      }
      t.deepEqual(cached, [0, 128, 128, 128])
    })
    await fresh(async (id) => {
      const cached: number[] = []
      for (const seed of [1, 2, 3, 4]) cached.push((await ask(id, prompt(240, 100, seed))).cached)
      t.deepEqual(cached, [0, 0, 64, 64])
    })
  })

  test.serial(`${architecture}: a request that gave its memory up has the same answer`, async (t) => {
    const prompts = Array.from({ length: 12 }, (_, i) => prompt(40 + 3 * i, 30, i))
    const more = { maxTokens: 150 }
    const expected: string[] = []
    await fresh(async (id) => {
      for (const tokens of prompts) expected.push((await ask(id, tokens, { ...more, cachePrompt: false })).essence)
    })
    const { cacheBytes } = systemInfo()
    try {
      await fresh(async (id) => {
        const path = join(tmpdir(), `realm-node-${process.pid}-${architecture}.gguf`)
        writeFileSync(path, family(architecture))
        const whole = (await inspect(path)).memory?.kvCache.f16 ?? 0
        // Room for one request of a whole context and half of another.
        configure({ cacheBytes: Math.ceil(1.5 * whole) })
        const answers = await Promise.all(prompts.map((tokens) => ask(id, tokens, more)))
        t.deepEqual(
          answers.map(({ essence }) => essence),
          expected,
        )
        t.true(getStats(id).preempted > 0)
        configure({ cacheBytes: 100 })
        await t.throwsAsync(ask(id, prompt(10)), { code: 'ERR_REALM_OUT_OF_MEMORY' })
        t.is(getStats(id).running, 0)
      })
    } finally {
      configure({ cacheBytes })
    }
  })

  test.serial(`${architecture}: the layer API computes what generate computes`, async (t) => {
    await fresh(async (id) => {
      const tokens = prompt(100)
      const { answer } = await ask(id, tokens, { kvType: 'f32' })
      const cache = new KvCache(id, { type: 'f32' })
      for (const [from, to] of [
        [0, 1],
        [1, 70],
        [70, 99],
      ])
        await forward(id, tokens.slice(from, to), from, cache)
      const fork = cache.fork()
      const bytes = await cache.save()
      const logits = async (cache: KvCache) => {
        const hidden = await forward(id, [tokens[99]], 99, cache)
        return computeLogits(id, lastRow(hidden, getModelInfo(id).embeddingLength))
      }
      const expected = await logits(cache)
      t.is(argmax(expected), answer[0])
      t.deepEqual(await logits(fork), expected)
      t.deepEqual(await logits(await KvCache.load(id, bytes)), expected)
      // Without a cache: rows that follow nothing.
      const whole = await forward(id, tokens, 0)
      const again = new KvCache(id)
      t.deepEqual(await forward(id, tokens, 0, again), whole)
    })
  })

  test.serial(`${architecture}: what a state cannot do is an error`, async (t) => {
    await fresh(async (id) => {
      const shift = generate(id, prompt(10), { ...options, overflow: 'shift' })
      await t.throwsAsync(shift, { code: 'ERR_REALM_UNSUPPORTED', message: /recurrent/ })
      const cache = new KvCache(id)
      await forward(id, prompt(10), 0, cache)
      t.throws(() => cache.truncate(9), { code: 'ERR_REALM_UNSUPPORTED', message: /truncate it to 0/ })
      cache.truncate(10)
      const whole = await cache.save()
      await forwardLayer(id, 0, await embedTokens(id, [1]), 10, cache)
      await t.throwsAsync(cache.save(), { code: 'ERR_REALM_INVALID_ARGUMENT' })
      cache.truncate(0)
      await forward(id, prompt(10), 0, cache)
      t.deepEqual(await cache.save(), whole)
    })
  })

  test.serial(`${architecture}: on every instruction set that this machine has`, async (t) => {
    const path = join(tmpdir(), `realm-node-${process.pid}-${architecture}.gguf`)
    writeFileSync(path, family(architecture))
    const script = `
      realm.storeModel(${JSON.stringify(path)}).then(async (id) => {
        const { tokens, logprobs } = await realm.generate(id, ${JSON.stringify(prompt(150))}, ${JSON.stringify(options)})
        console.log(JSON.stringify([[...tokens], logprobs]))
      })`
    const answers = new Set<string>()
    for (const tier of systemInfo().availableInstructionSets) {
      const { stdout, stderr } = await run(script, { REALM_ISA: tier })
      answers.add(stdout || stderr)
    }
    t.is(answers.size, 1, [...answers].join('\n'))
    t.true([...answers][0].startsWith('[['))
  })
}
