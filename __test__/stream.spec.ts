// `generateStream` as an async iterator.
import { Readable } from 'node:stream'
import test from 'ava'
import { detokenize, generate, generateStream, type TokenChunk } from '../index.js'
import { embeddedId, run } from './helpers.js'
import { answer, collect, endless, greedy, join, noModel, question } from './support.js'

test('the chunks together are what generate gives', async (t) => {
  const id = await embeddedId()
  for (const options of [greedy, { seed: 7, maxTokens: 40 }, { ...greedy, stop: 'is P' }]) {
    const chunks = await collect(generateStream(id, question, options))
    const { text, tokens } = await generate(id, question, options)
    t.deepEqual(join(chunks), { text, tokens })
  }
})

test('the last chunk, and only that, tells how it ended', async (t) => {
  const id = await embeddedId()
  // No chunk holds many more than 256 tokens, however late it is read: this answer comes in pieces on any day.
  const options = { ...endless, maxTokens: 600 }
  const chunks = await collect(generateStream(id, question, { ...options, seed: 5 }))
  t.true(chunks.length > 2, 'the answer should come in pieces')
  const last = chunks.pop() as TokenChunk
  for (const chunk of chunks) t.deepEqual(Object.keys(chunk).sort(), ['text', 'tokens'])
  const whole = await generate(id, question, options)
  t.is(last.finishReason, 'length')
  t.is(last.usage?.promptTokens, whole.usage.promptTokens)
  t.is(last.usage?.completionTokens, whole.usage.completionTokens)
  t.true((last.timings?.firstTokenMs ?? -1) >= 0)
  t.is(last.seed, 5)
})

test('chunks carry log probabilities on request', async (t) => {
  const id = await embeddedId()
  const options = { ...greedy, logprobs: 2 }
  const chunks = await collect(generateStream(id, question, options))
  for (const { tokens, logprobs } of chunks) {
    t.deepEqual(
      (logprobs ?? []).map(({ token }) => token),
      [...tokens],
    )
  }
  t.deepEqual(
    chunks.flatMap((chunk) => chunk.logprobs ?? []),
    (await generate(id, question, options)).logprobs,
  )
})

test('a chunk never holds half a character', async (t) => {
  const id = await embeddedId()
  // So hot that any byte may follow any other: characters come in pieces, and mostly incomplete.
  const options = { temperature: 100, topK: 0, topP: 1, minP: 0, ignoreEos: true, maxTokens: 200 }
  for (let seed = 0; seed < 5; seed++) {
    const { text, tokens } = join(await collect(generateStream(id, 'x', { ...options, seed })))
    t.is(text, await detokenize(id, tokens))
  }
})

test('a chunk never holds part of a stop string', async (t) => {
  const id = await embeddedId()
  const chunks = await collect(generateStream(id, question, { ...greedy, stop: ['is Paris.', 'capital of Spain'] }))
  t.is(join(chunks).text, 'The capital of France ')
})

test('a stream is its own iterator, once', async (t) => {
  const id = await embeddedId()
  const stream = generateStream(id, question, greedy)
  t.is(stream[Symbol.asyncIterator](), stream)
  t.is(join(await collect(stream)).text, answer)
  t.deepEqual(await collect(stream), [])
  t.like(await stream.next(), { done: true, value: undefined })
  t.like(await stream.next(), { done: true, value: undefined })
})

test('next() calls made at once are answered in order', async (t) => {
  const id = await embeddedId()
  const stream = generateStream(id, question, greedy)
  const settled: number[] = []
  const results = await Promise.all(
    Array.from({ length: 20 }, async (_, i) => {
      const result = await stream.next()
      settled.push(i)
      return result
    }),
  )
  t.deepEqual(settled, [...settled.keys()])
  t.is(join(results.flatMap(({ done, value }) => (done || !value ? [] : [value]))).text, answer)
  const end = results.findIndex(({ done }) => done)
  t.true(end > 0 && results.slice(end).every(({ done }) => done))
})

test('it works with yield*, Readable.from and await using', async (t) => {
  const id = await embeddedId()
  async function* delegate(): AsyncGenerator<TokenChunk, void, void> {
    yield* generateStream(id, question, greedy)
  }
  t.is(join(await collect(delegate())).text, answer)
  t.is(join((await Readable.from(generateStream(id, question, greedy)).toArray()) as TokenChunk[]).text, answer)
  let kept: AsyncGenerator<TokenChunk, void, void>
  {
    await using stream = generateStream(id, question, endless)
    t.false((await stream.next()).done)
    kept = stream
  }
  t.true((await kept.next()).done)
})

test('a reader that takes its time misses nothing', async (t) => {
  const id = await embeddedId()
  const stream = generateStream(id, question, greedy)
  const chunks: TokenChunk[] = []
  for await (const chunk of stream) {
    chunks.push(chunk)
    // Meanwhile others are served.
    t.is((await generate(id, question, greedy)).text, answer)
  }
  t.is(join(chunks).text, answer)
})

test('bad arguments and unknown models throw at once', async (t) => {
  const id = await embeddedId()
  t.throws(() => generateStream(id, 5 as never), { code: 'ERR_REALM_INVALID_ARGUMENT' })
  t.throws(() => generateStream(noModel, 'x'), { code: 'ERR_REALM_MODEL_NOT_FOUND' })
})

test('what goes wrong later rejects one next(), and then the stream is done', async (t) => {
  const id = await embeddedId()
  const stream = generateStream(id, new Uint32Array(600).fill(305), greedy)
  await t.throwsAsync(stream.next(), { code: 'ERR_REALM_CONTEXT_OVERFLOW' })
  t.true((await stream.next()).done)
})

test('a stream that nobody waits for does not keep the process alive', async (t) => {
  const { code, stdout, stderr } = await run(`
    realm.storeModel(realm.embeddedModel).then(async (id) => {
      const stream = realm.generateStream(id, 'Once upon a time', ${JSON.stringify(endless)})
      await stream.next()
      process.on('exit', () => console.log('end', typeof stream))
    })`)
  t.deepEqual({ code, stdout, stderr }, { code: 0, stdout: 'end object\n', stderr: '' })
})

test('a next() that is waited for keeps the process alive', async (t) => {
  const { code, stdout, stderr } = await run(`
    realm.storeModel(realm.embeddedModel).then(async (id) => {
      let text = ''
      for await (const chunk of realm.generateStream(id, ${JSON.stringify(question)}, { temperature: 0 })) text += chunk.text
      console.log(text)
    })`)
  t.deepEqual({ code, stdout, stderr }, { code: 0, stdout: `${answer}\n`, stderr: '' })
})

test('process.exit ends it all at once', async (t) => {
  const { code, stderr } = await run(`
    realm.storeModel(realm.embeddedModel).then(async (id) => {
      realm.generate(id, 'x', ${JSON.stringify(endless)})
      const stream = realm.generateStream(id, 'y', ${JSON.stringify(endless)})
      await stream.next()
      stream.next()
      process.exit(7)
    })`)
  t.deepEqual({ code, stderr }, { code: 7, stderr: '' })
})
