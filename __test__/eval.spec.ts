// The embedded model answers what it was recorded to answer, token for token.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { applyChatTemplate, type ChatMessage, generate, getModelInfo, storeModel, tokenize } from '../index.js'
import { embeddedId, fixture, root } from './helpers.js'
import { answer, greedy, question } from './support.js'

interface Recorded {
  text: string
  tokens: number[]
  /** The smallest lead, in logits, of a chosen token over the second best. */
  margin: number
}

interface Evaluation {
  max_tokens: number
  chats: { messages: ChatMessage[]; prompt: string; prompt_tokens: number[]; f16: Recorded; q8_0: Recorded }[]
  completions: { prompt: string; max_tokens: number; prompt_tokens: number[]; f16: Recorded; q8_0: Recorded }[]
}

const { max_tokens, chats, completions } = JSON.parse(
  readFileSync(join(root, 'models', 'realm-tiny', 'eval.json'), 'utf8'),
) as Evaluation

/** Below this lead another engine may round to another token. */
const CLEAR = 1

const tiny = (file: string): string => fixture('..', 'models', 'realm-tiny', file)

const files: { name: 'q8_0' | 'f16'; id: () => Promise<string> }[] = [
  { name: 'q8_0', id: embeddedId },
  { name: 'f16', id: () => storeModel(tiny('realm-tiny-f16.gguf')) },
]

test('prompts are rendered and tokenised as recorded', async (t) => {
  const id = await embeddedId()
  for (const { messages, prompt, prompt_tokens } of chats) {
    t.is(await applyChatTemplate(id, messages), prompt)
    t.deepEqual([...(await tokenize(id, prompt, { parseSpecial: true }))], prompt_tokens)
  }
  for (const { prompt, prompt_tokens } of completions) t.deepEqual([...(await tokenize(id, prompt))], prompt_tokens)
})

for (const { name, id: stored } of files) {
  test(`${name}: chats are answered token for token`, async (t) => {
    const id = await stored()
    const clear = chats.filter((chat) => chat[name].margin > CLEAR)
    t.is(clear.length, 56)
    for (const { messages, prompt_tokens, [name]: recorded } of clear) {
      const { text, tokens, finishReason, usage } = await generate(id, messages, { ...greedy, maxTokens: max_tokens })
      t.is(text, recorded.text)
      t.deepEqual([...tokens], recorded.tokens)
      t.is(finishReason, 'stop')
      t.is(usage.promptTokens, prompt_tokens.length)
    }
  })

  test(`${name}: texts are continued token for token`, async (t) => {
    const id = await stored()
    const clear = completions.filter((completion) => completion[name].margin > CLEAR)
    t.true(clear.length > 0)
    for (const { prompt, max_tokens: maxTokens, [name]: recorded } of clear) {
      const { text, tokens } = await generate(id, prompt, { ...greedy, maxTokens })
      t.is(text, recorded.text)
      t.deepEqual([...tokens], recorded.tokens)
    }
  })
}

for (const [file, quantization] of [
  ['realm-tiny-f16.gguf', 'F16'],
  ['realm-tiny-q4_k_m.gguf', 'Q4_K_M'],
]) {
  test(`${quantization}: the capital of France is Paris`, async (t) => {
    const id = await storeModel(tiny(file))
    t.is(getModelInfo(id).quantization, quantization)
    t.is((await generate(id, question, greedy)).text, answer)
  })
}
