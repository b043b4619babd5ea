// Models whose layers all look back only so far: what no layer looks at any more takes no memory, and no answer shows it.
import test from 'ava'
import { configure, type GenerateOptions, generate, getStats, removeModel, storeModel, systemInfo } from '../index.js'
import { family } from './families.js'

/** Numbers that the description has as whole ones, which the file must hold as fractions. */
const fractions = {
  'gemma3.rope.freq_base': 50000.5,
  'gemma3.rope.freq_base_swa': 9000.5,
  'gemma3.rope.scaling.factor': 4.5,
  'gemma3.final_logit_softcapping': 5.5,
}

const prompt = Array.from({ length: 20 }, (_, i) => (i * i + 3 * i) % 37)

async function ask(id: string, options: GenerateOptions) {
  const { tokens, usage } = await generate(id, prompt, { temperature: 1, seed: 7, maxTokens: 220, ...options })
  return { tokens: tokens.join(), cached: usage.cachedTokens }
}

test.serial('pages outside every window are given back while a request runs', async (t) => {
  const windows = { 'gemma3.attention.sliding_window_pattern': [true, true, true, true] }
  const id = await storeModel(family('gemma3, listed windows', { ...fractions, ...windows }))
  t.teardown(() => removeModel(id))
  // What may have to be moved is all kept: four pages.
  const kept = await ask(id, { cachePrompt: false, overflow: 'shift' })
  const { cacheBytes } = systemInfo()
  t.teardown(() => configure({ cacheBytes }))
  configure({ cacheBytes: 2 * getStats(id).pageBytes })
  t.is((await ask(id, { cachePrompt: false })).tokens, kept.tokens)
  await t.throwsAsync(ask(id, { cachePrompt: false, overflow: 'shift' }), { code: 'ERR_REALM_OUT_OF_MEMORY' })
  configure({ cacheBytes })
  // Others can still begin where it has been.
  const first = await ask(id, {})
  t.deepEqual(first, { tokens: kept.tokens, cached: 0 })
  const second = await ask(id, {})
  t.deepEqual(second, { tokens: kept.tokens, cached: prompt.length - 1 })
  const both = await Promise.all([ask(id, {}), ask(id, { cachePrompt: false })])
  t.deepEqual(
    both.map(({ tokens }) => tokens),
    [kept.tokens, kept.tokens],
  )
})

test.serial('a layer that sees everything keeps everything', async (t) => {
  const id = await storeModel(family('gemma3, listed windows', fractions))
  const { cacheBytes } = systemInfo()
  t.teardown(() => {
    configure({ cacheBytes })
    removeModel(id)
  })
  configure({ cacheBytes: 2 * getStats(id).pageBytes })
  await t.throwsAsync(ask(id, { cachePrompt: false }), { code: 'ERR_REALM_OUT_OF_MEMORY' })
})
