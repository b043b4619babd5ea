// Tokens and chat templates.
import test from 'ava'
import {
  applyChatTemplate,
  type ChatMessage,
  detokenize,
  generate,
  getModelInfo,
  storeModel,
  tokenize,
} from '../index.js'
import { embeddedId, fixture, fixtureJson } from './helpers.js'
import { greedy, question } from './support.js'

const rendered = '<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n'

test('text goes to tokens and back', async (t) => {
  const id = await embeddedId()
  for (const text of [
    'The capital of France is',
    '',
    ' ',
    '  two\n\nlines\t',
    'Grüße, 世界 🙂!',
    'a\0b',
    '<|im_end|>',
  ]) {
    const tokens = await tokenize(id, text, { addSpecial: false })
    t.true(tokens instanceof Uint32Array)
    t.is(await detokenize(id, tokens), text)
    t.is(await detokenize(id, [...tokens]), text)
  }
})

test('addSpecial adds what begins a text, and is the default', async (t) => {
  const id = await embeddedId()
  const tokens = await tokenize(id, 'The capital of France is')
  t.deepEqual(tokens, Uint32Array.of(1, 305, 299, 283, 1160, 276))
  t.deepEqual(await tokenize(id, 'The capital of France is', { addSpecial: false }), tokens.slice(1))
  t.deepEqual(await tokenize(id, '', {}), Uint32Array.of(1))
  t.deepEqual(await tokenize(id, '', { addSpecial: false }), new Uint32Array())
})

test('control tokens in a text stay text unless parseSpecial', async (t) => {
  const id = await embeddedId()
  const options = { addSpecial: false }
  t.deepEqual(await tokenize(id, '<|im_end|>', { ...options, parseSpecial: true }), Uint32Array.of(3))
  const plain = await tokenize(id, '<|im_end|>', options)
  t.true(plain.length > 1)
  t.false(plain.includes(3))
})

test('detokenize leaves control tokens out unless special', async (t) => {
  const id = await embeddedId()
  const tokens = [1, 2, 305, 3]
  t.is(await detokenize(id, tokens), 'The')
  t.is(await detokenize(id, tokens, { special: true }), '<|startoftext|><|im_start|>The<|im_end|>')
  t.is(await detokenize(id, []), '')
})

test('half a character is shown as U+FFFD', async (t) => {
  const id = await embeddedId()
  const tokens = await tokenize(id, '🙂', { addSpecial: false })
  t.true(tokens.length > 1, 'the test needs a character that takes several tokens')
  t.regex(await detokenize(id, tokens.slice(0, -1)), /^\ufffd+$/)
  const cut = await tokenize(id, 'a\ud83d', { addSpecial: false })
  t.is(await detokenize(id, cut), 'a\ufffd')
})

test('the template of the model makes the prompt that the model was trained on', async (t) => {
  const id = await embeddedId()
  t.is(await applyChatTemplate(id, question), rendered)
  t.is(
    await applyChatTemplate(id, question, { addGenerationPrompt: false }),
    rendered.slice(0, rendered.indexOf('<|im_start|>assistant')),
  )
  const tokens = await tokenize(id, rendered, { parseSpecial: true })
  t.deepEqual(tokens, Uint32Array.of(1, 2, 274, 202, 315, 276, 279, 299, 283, 1160, 34, 3, 202, 2, 272, 202))
  const { usage } = await generate(id, question, { ...greedy, maxTokens: 1 })
  t.is(usage.promptTokens, tokens.length)
})

test('a template of your own sees messages, tools, documents, variables and the time', async (t) => {
  const id = await embeddedId()
  const template =
    '{% for m in messages %}{{ m.role }}:{{ m.content }}:{{ m.mood }};{% endfor %}' +
    '{{ tools[0].name }} {{ documents | length }} {{ colour }} {{ strftime_now("%Y-%m-%d") }} {{ add_generation_prompt }}'
  const messages: ChatMessage[] = [{ role: 'user', content: 'Hi', mood: 'good' } as ChatMessage]
  const options = { template, tools: [{ name: 'f' }], documents: [1, 2], variables: { colour: 'blue' } }
  const expected = 'user:Hi:good;f 2 blue 2026-02-03 '
  const now = new Date('2026-02-03T04:05:06Z')
  t.is(await applyChatTemplate(id, messages, { ...options, now }), `${expected}True`)
  t.is(
    await applyChatTemplate(id, messages, { ...options, now: now.getTime(), addGenerationPrompt: false }),
    `${expected}False`,
  )
})

test('messages may hold whatever JSON holds', async (t) => {
  const id = await embeddedId()
  const template = '{{ messages[0].content | tojson }}'
  for (const content of [null, 'x', ['a', { b: [1, 2.5, true, null] }], { nested: { deep: 'é' } }]) {
    const json = await applyChatTemplate(id, [{ role: 'user', content } as ChatMessage], { template })
    t.deepEqual(JSON.parse(json), content)
  }
  // Half a surrogate pair is what remains of a string that was cut inside a character.
  t.is(await applyChatTemplate(id, [{ role: 'user', content: 'a\ud83d' }], { template }), '"a\ufffd"')
})

test('a template that refuses, fails or does not end is an error', async (t) => {
  const id = await embeddedId()
  for (const [template, message] of [
    ['{{ raise_exception("no such role") }}', /no such role/],
    ['{% for %}', /./],
    ['{% for i in range(100000) %}{% for j in range(100000) %}{{ i }}{% endfor %}{% endfor %}', /./],
    ['{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}', /./],
  ] as const) {
    await t.throwsAsync(
      applyChatTemplate(id, question, { template }),
      { code: 'ERR_REALM_INVALID_ARGUMENT', message },
      template,
    )
  }
})

test('a model without a template says so', async (t) => {
  const id = await storeModel(fixture('malformed', 'base.gguf'))
  if (getModelInfo(id).hasChatTemplate) return t.fail('the test needs a model without a template')
  await t.throwsAsync(applyChatTemplate(id, question), { code: 'ERR_REALM_INVALID_ARGUMENT', message: /template/ })
  await t.throwsAsync(generate(id, question), { code: 'ERR_REALM_INVALID_ARGUMENT', message: /template/ })
})

interface Vocabulary {
  vocab: string
  n_tokens: number
  cases: { text: string; ids: number[]; add_special: boolean; parse_special: boolean; detokenized?: string }[]
}

for (const name of ['llama-spm', 'gpt-2']) {
  test(`a vocabulary-only file (${name}) stores and tokenises like any model`, async (t) => {
    const { vocab, n_tokens, cases } = fixtureJson<Vocabulary>('tokenizers', `${name}.json`)
    const id = await storeModel(fixture('tokenizers', vocab))
    t.like(getModelInfo(id), { vocabularySize: n_tokens, tensorCount: 0 })
    for (const { text, ids, add_special, parse_special, detokenized } of cases) {
      const tokens = await tokenize(id, text, { addSpecial: add_special, parseSpecial: parse_special })
      t.deepEqual([...tokens], ids, JSON.stringify(text))
      if (detokenized !== undefined) t.is(await detokenize(id, ids, { special: true }), detokenized)
    }
    await t.throwsAsync(generate(id, 'x'), { code: 'ERR_REALM_UNSUPPORTED' })
  })
}
