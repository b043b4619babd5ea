// Whatever is passed, the answer is an error with a code and a message that names the argument. That the last test still
// runs shows that the process survived the rest.
import test from 'ava'
import * as realm from '../index.js'
import { embeddedId } from './helpers.js'
import { answer, greedy, noModel, question } from './support.js'

// Types are what is being broken here.
// biome-ignore lint/suspicious/noExplicitAny: see above
type Anything = any
// biome-ignore lint/suspicious/noExplicitAny: see above
const api = realm as Record<string, any>

/** A call, the error's class and what its message says. */
type Case = [(id: string) => unknown, typeof TypeError | typeof RangeError, RegExp]

const wrong = (call: Case[0], says: RegExp): Case => [call, TypeError, says]
const out = (call: Case[0], says: RegExp): Case => [call, RangeError, says]

/** Values that are not numbers, and numbers that are not small natural ones. */
const notNumbers = ['1', true, {}, [], () => 1, 1n, Symbol('s')]
const notNatural = [-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 2 ** 53, -(2 ** 53)]

function option(
  name: string,
  set: (id: string, options: object) => unknown,
  bad: unknown[],
  beyond: unknown[],
): Case[] {
  const says = new RegExp(`options\\.${name}`)
  return [
    ...bad.map((value) => wrong((id) => set(id, { [name]: value }), says)),
    ...beyond.map((value) => out((id) => set(id, { [name]: value }), says)),
  ]
}

const tokens: Case[] = [undefined, null, 5, '5', {}, new Float32Array(1), new BigUint64Array(1)].flatMap((value) => [
  wrong((id) => api.embedTokens(id, value), /tokens must be/),
  wrong((id) => api.detokenize(id, value), /tokens must be/),
])
const tokenElements: Case[] = [
  ...[undefined, null, '1', [1], 1n].map((value) => wrong((id) => api.embedTokens(id, [1, value]), /tokens\[1\]/)),
  ...[-1, 0.5, 2 ** 32, Number.NaN].map((value) => out((id) => api.detokenize(id, [value]), /tokens\[0\]/)),
  out((id) => api.embedTokens(id, [2048]), /2048/),
  out((id) => api.detokenize(id, new Uint32Array([0xffffffff])), /4294967295/),
]

const generateOption = (id: string, options: object): unknown => api.generate(id, 'x', options)

const promises: Record<string, Case[]> = {
  storeModel: [
    ...[undefined, null, 5, {}, [], new Float32Array(1), new ArrayBuffer(8), () => 1, Symbol('s')].map((value) =>
      wrong(() => api.storeModel(value), /source must be/),
    ),
    out(() => api.storeModel(''), /source must be/),
    out(() => api.storeModel('a\0b'), /source must be/),
    out(() => api.storeModel(new URL('https://example.org/model.gguf')), /https:/),
    ...option('onProgress', (_, options) => api.storeModel('x', options), [5, {}, 'f'], []),
    ...option('signal', (_, options) => api.storeModel('x', options), [5, {}, new EventTarget()], []),
    ...option('kvType', (_, options) => api.storeModel('x', options), [5, {}, true], ['f8', '']),
    wrong(() => api.storeModel('x', { onprogress: () => {} }), /options\.onprogress.*onProgress/),
    wrong(() => api.storeModel('x', 5), /options must be an object/),
    wrong(() => api.storeModel('x', []), /options must be an object/),
    wrong(() => api.storeModel('x', () => {}), /options must be an object/),
  ],
  getTensor: [undefined, null, 5, {}].map((name) => wrong((id) => api.getTensor(id, name), /name must be a string/)),
  getTensorData: [wrong((id) => api.getTensorData(id), /name must be a string/)],
  tokens: [...tokens, ...tokenElements],
  forwardLayer: [
    ...[...notNumbers, undefined, null].map((layer) =>
      wrong((id) => api.forwardLayer(id, layer, new Float32Array(256), 0), /layer must be an integer/),
    ),
    ...notNatural.map((layer) => out((id) => api.forwardLayer(id, layer, new Float32Array(256), 0), /layer must be/)),
    out((id) => api.forwardLayer(id, 4, new Float32Array(256), 0), /layer/),
    ...[undefined, null, [1, 2], new Float64Array(256), new Uint8Array(1024), 'x', new ArrayBuffer(1024)].map(
      (hidden) => wrong((id) => api.forwardLayer(id, 0, hidden, 0), /hidden must be a Float32Array/),
    ),
    out((id) => api.forwardLayer(id, 0, new Float32Array(255), 0), /hidden|255/),
    ...notNumbers.map((position) =>
      wrong((id) => api.forwardLayer(id, 0, new Float32Array(256), position), /position must be an integer/),
    ),
    ...notNatural.map((position) =>
      out((id) => api.forwardLayer(id, 0, new Float32Array(256), position), /position must be an integer/),
    ),
    ...[5, 'x', {}, [], new Map()].map((cache) =>
      wrong((id) => api.forwardLayer(id, 0, new Float32Array(256), 0, cache), /cache must be a KvCache/),
    ),
  ],
  computeLogits: [
    wrong((id) => api.computeLogits(id), /hidden must be a Float32Array/),
    wrong((id) => api.computeLogits(id, new Float64Array(256)), /got a Float64Array/),
    out((id) => api.computeLogits(id, new Float32Array(257)), /hidden|257/),
  ],
  tokenize: [
    ...[undefined, null, 5, {}, ['a'], new Uint8Array(2)].map((text) =>
      wrong((id) => api.tokenize(id, text), /text must be a string/),
    ),
    ...option('addSpecial', (id, options) => api.tokenize(id, 'x', options), [1, 'yes', {}], []),
    ...option('parseSpecial', (id, options) => api.tokenize(id, 'x', options), [0], []),
    wrong((id) => api.tokenize(id, 'x', { add_special: true }), /options\.add_special.*addSpecial/),
  ],
  detokenize: [
    ...option('special', (id, options) => api.detokenize(id, [1], options), [1], []),
    wrong((id) => api.detokenize(id, [1], { skipSpecial: true }), /the options are special/),
  ],
  applyChatTemplate: [
    ...[undefined, null, 'hi', {}, 5].map((messages) =>
      wrong((id) => api.applyChatTemplate(id, messages), /messages must be an array/),
    ),
    wrong((id) => api.applyChatTemplate(id, ['hi']), /messages\[0\] must be an object/),
    wrong((id) => api.applyChatTemplate(id, [{ content: 'hi' }]), /messages\[0\]\.role must be a string/),
    wrong((id) => api.applyChatTemplate(id, [question[0], { role: 5 }]), /messages\[1\]\.role must be a string/),
    wrong((id) => api.applyChatTemplate(id, [{ role: 'user', content: 1n }]), /messages cannot be written as JSON/),
    ...option('template', (id, options) => api.applyChatTemplate(id, question, options), [5, {}], []),
    ...option('tools', (id, options) => api.applyChatTemplate(id, question, options), [5, {}, 'x', () => 1], []),
    ...option('documents', (id, options) => api.applyChatTemplate(id, question, options), [5, {}], []),
    ...option('variables', (id, options) => api.applyChatTemplate(id, question, options), [5, [], 'x'], []),
    ...option('now', (id, options) => api.applyChatTemplate(id, question, options), ['today', {}], [new Date('?')]),
    out((id) => api.applyChatTemplate(id, question, { template: '{% if %}' }), /./),
  ],
  generate: [
    ...[undefined, null, 5, {}, true, new Uint8Array(1), new Float32Array(1)].map((prompt) =>
      wrong((id) => api.generate(id, prompt), /prompt must be/),
    ),
    out((id) => api.generate(id, []), /prompt must be .*empty/),
    wrong((id) => api.generate(id, ['a']), /prompt\[0\] must be an object/),
    wrong((id) => api.generate(id, [1, 'a']), /prompt\[1\] must be an integer/),
    wrong((id) => api.generate(id, [question[0], 7]), /prompt\[1\] must be an object/),
    out((id) => api.generate(id, [1, -1]), /prompt\[1\] must be an integer/),
    ...option('maxTokens', generateOption, notNumbers, [...notNatural, 2 ** 32]),
    ...option('temperature', generateOption, notNumbers, [-1, Number.NaN, Number.POSITIVE_INFINITY, 1e300]),
    ...option('topK', generateOption, notNumbers, [...notNatural, 2 ** 32]),
    ...option('topP', generateOption, notNumbers, [-0.1, 1.1, Number.NaN]),
    ...option('minP', generateOption, notNumbers, [-0.1, 1.1, Number.NaN]),
    ...option('seed', generateOption, notNumbers, notNatural),
    ...option('repeatPenalty', generateOption, notNumbers, [0, -1, Number.NaN, Number.POSITIVE_INFINITY]),
    ...option('frequencyPenalty', generateOption, notNumbers, [Number.NaN, Number.NEGATIVE_INFINITY]),
    ...option('presencePenalty', generateOption, notNumbers, [Number.NaN, Number.POSITIVE_INFINITY]),
    ...option('penaltyLastN', generateOption, notNumbers, [-2, 1.5, Number.NaN, 2 ** 32]),
    ...option('stop', generateOption, [5, {}, [5], [null], true], ['', ['a', '']]),
    ...option(
      'logitBias',
      generateOption,
      [5, [], 'x', new Map([[1, 'x']]).entries, { 1: 'x' }],
      [{ a: 1 }, { '-1': 1 }],
    ),
    ...option('logitBias', generateOption, [], [{ 1: Number.NaN }, { 1: Number.POSITIVE_INFINITY }]),
    out((id) => api.generate(id, 'x', { logitBias: { 2048: 1 } }), /logitBias.*2048/),
    ...option('ignoreEos', generateOption, [0, 'no', {}], []),
    ...option('logprobs', generateOption, notNumbers, notNatural),
    ...option('overflow', generateOption, [5, true], ['Error', 'truncate']),
    ...option('kvType', generateOption, [5], ['F16', 'q4_0']),
    ...option('priority', generateOption, notNumbers, [0.5, 2 ** 31, Number.NaN]),
    ...option('signal', generateOption, [5, 'x', {}, { aborted: false }], []),
    wrong((id) => api.generate(id, 'x', { max_tokens: 5 }), /options\.max_tokens.*maxTokens/),
    wrong((id) => api.generate(id, 'x', { topk: 5 }), /options\.topk.*topK/),
    wrong((id) => api.generate(id, 'x', { beams: 5 }), /options\.beams.*maxTokens, temperature/),
    wrong((id) => api.generate(id, 'x', 'y'), /options must be an object/),
  ],
}

const throwing: Record<string, Case[]> = {
  generateStream: [
    ...[undefined, null, 5, {}].map((prompt) => wrong((id) => api.generateStream(id, prompt), /prompt must be/)),
    ...option('maxTokens', (id, options) => api.generateStream(id, 'x', options), ['1'], [-1]),
    ...option('signal', (id, options) => api.generateStream(id, 'x', options), [{}], []),
    wrong((id) => api.generateStream(id, 'x', { max_tokens: 5 }), /maxTokens/),
  ],
  getMetadata: [
    ...option('arrays', (id, options) => api.getMetadata(id, options), [1, 'yes'], []),
    wrong((id) => api.getMetadata(id, { array: true }), /the options are arrays/),
  ],
  KvCache: [
    ...option('maxTokens', (id, options) => new api.KvCache(id, options), notNumbers, [...notNatural, 0]),
    ...option('type', (id, options) => new api.KvCache(id, options), [5], ['f64', 'F16']),
    ...[...notNumbers, undefined].map((length) =>
      wrong((id) => new api.KvCache(id).truncate(length), /length must be an integer/),
    ),
    ...notNatural.map((length) => out((id) => new api.KvCache(id).truncate(length), /length must be an integer/)),
  ],
  configure: [
    ...[undefined, 5, 'x', []].map((options) => wrong(() => api.configure(options), /options must be an object/)),
    ...option('threads', (_, options) => api.configure(options), notNumbers, [...notNatural, 0, 1_000_000]),
    ...option('cacheBytes', (_, options) => api.configure(options), notNumbers, notNatural),
    ...option('maxQueued', (_, options) => api.configure(options), notNumbers, notNatural),
    wrong(() => api.configure({ thread: 2 }), /the options are threads, cacheBytes/),
  ],
}

for (const [name, cases] of Object.entries(promises)) {
  test(`${name}: bad arguments reject, they do not throw`, async (t) => {
    const id = await embeddedId()
    for (const [call, instanceOf, message] of cases) {
      let promise: unknown
      t.notThrows(() => {
        promise = call(id)
      }, call.toString())
      t.true(promise instanceof Promise)
      await t.throwsAsync(
        promise as Promise<unknown>,
        { code: 'ERR_REALM_INVALID_ARGUMENT', instanceOf, message },
        call.toString(),
      )
    }
  })
}

for (const [name, cases] of Object.entries(throwing)) {
  test(`${name}: bad arguments throw`, async (t) => {
    const id = await embeddedId()
    for (const [call, instanceOf, message] of cases) {
      t.throws(() => call(id), { code: 'ERR_REALM_INVALID_ARGUMENT', instanceOf, message }, call.toString())
    }
  })
}

/** Every function that takes a model, with arguments that are right otherwise. */
const takingModels: Record<string, (id: Anything) => unknown> = {
  getModelInfo: (id) => api.getModelInfo(id),
  getMetadata: (id) => api.getMetadata(id),
  listTensors: (id) => api.listTensors(id),
  removeModel: (id) => api.removeModel(id),
  KvCache: (id) => new api.KvCache(id),
  generateStream: (id) => api.generateStream(id, 'x'),
  getTensor: (id) => api.getTensor(id, 'token_embd.weight'),
  getTensorData: (id) => api.getTensorData(id, 'token_embd.weight'),
  embedTokens: (id) => api.embedTokens(id, [1]),
  forwardLayer: (id) => api.forwardLayer(id, 0, new Float32Array(256), 0),
  computeLogits: (id) => api.computeLogits(id, new Float32Array(256)),
  tokenize: (id) => api.tokenize(id, 'x'),
  detokenize: (id) => api.detokenize(id, [1]),
  applyChatTemplate: (id) => api.applyChatTemplate(id, question),
  generate: (id) => api.generate(id, 'x'),
}

for (const [name, call] of Object.entries(takingModels)) {
  test(`${name}: a bad model id is refused, an unknown one not found`, async (t) => {
    const attempt = async (id: unknown): Promise<unknown> => call(id)
    for (const id of [undefined, null, 5, {}, ['a'], Symbol('s')]) {
      await t.throwsAsync(attempt(id), {
        code: 'ERR_REALM_INVALID_ARGUMENT',
        instanceOf: TypeError,
        message: /modelId/,
      })
    }
    for (const id of ['', 'abc', noModel.slice(1), `${noModel}0`, 'G'.repeat(32), 'A'.repeat(32), 'é'.repeat(16)]) {
      await t.throwsAsync(attempt(id), {
        code: 'ERR_REALM_INVALID_ARGUMENT',
        instanceOf: RangeError,
        message: /modelId/,
      })
    }
    await t.throwsAsync(attempt(noModel), { code: 'ERR_REALM_MODEL_NOT_FOUND', message: new RegExp(noModel) })
  })
}

test('what a getter or a proxy throws comes back as it is', async (t) => {
  const id = await embeddedId()
  const thrown = new Error('mine')
  const options = {
    get maxTokens(): number {
      throw thrown
    },
  }
  t.is(await t.throwsAsync(api.generate(id, 'x', options)), thrown)
  t.is(
    t.throws(() => api.generateStream(id, 'x', options)),
    thrown,
  )
  const trap = {
    ownKeys(): never {
      throw thrown
    },
  }
  t.is(await t.throwsAsync(api.tokenize(id, 'x', new Proxy({}, trap))), thrown)
})

test('null and undefined options are absent ones', async (t) => {
  const id = await embeddedId()
  const expected = await api.tokenize(id, 'Hello!')
  for (const options of [null, undefined, {}, { addSpecial: null }, { addSpecial: undefined }]) {
    t.deepEqual(await api.tokenize(id, 'Hello!', options), expected)
  }
})

test('classes cannot be misused', async (t) => {
  const id = await embeddedId()
  t.throws(() => new api.TokenStream())
  for (const method of ['truncate', 'fork', 'dispose']) {
    t.throws(() => api.KvCache.prototype[method].call({}, 0))
    t.throws(() => api.KvCache.prototype[method].call(api.generateStream(id, 'x'), 0))
  }
  t.throws(() => api.TokenStream.prototype.next.call(new api.KvCache(id)))
})

test.serial('after all that, the capital of France is Paris', async (t) => {
  t.is((await realm.generate(await embeddedId(), question, greedy)).text, answer)
})
