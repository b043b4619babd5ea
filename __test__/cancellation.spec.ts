// Every way to end a request early: promptly, with the right reason, and without leaving anything behind.
import { setMaxListeners } from 'node:events'
import { setImmediate as turn } from 'node:timers/promises'
import test from 'ava'
import { generate, generateStream, getStats, removeModel, storeModel, systemInfo, type TokenChunk } from '../index.js'
import { embeddedId, fixture, run } from './helpers.js'
import {
  answer,
  collect,
  collectGarbageUntil,
  endless,
  greedy,
  join,
  listeners,
  question,
  rejection,
} from './support.js'

// All requests here are endless: a test that ends shows that its request did.

test('leaving a for await ends the request', async (t) => {
  const id = await embeddedId()
  const { signal } = new AbortController()
  const stream = generateStream(id, 'Once upon a time', { ...endless, signal })
  let chunks = 0
  for await (const chunk of stream) {
    t.true(chunk.tokens.length > 0 || chunk.text === '')
    if (++chunks === 3) break
  }
  t.like(await stream.next(), { done: true, value: undefined })
  t.is(listeners(signal), 0)
})

test('an exception in the body of a for await ends the request and is kept', async (t) => {
  const id = await embeddedId()
  const stream = generateStream(id, 'Once upon a time', endless)
  const thrown = new Error('mine')
  const loop = async (): Promise<void> => {
    for await (const _ of stream) throw thrown
  }
  t.is(await rejection(loop()), thrown)
  t.true((await stream.next()).done)
})

test('return() ends the request, before, during and after', async (t) => {
  const id = await embeddedId()
  const unread = generateStream(id, 'x', endless)
  t.like(await unread.return(), { done: true, value: undefined })
  t.true((await unread.next()).done)

  const stream = generateStream(id, 'x', endless)
  await stream.next()
  await stream.return()
  await stream.return()
  t.deepEqual(await collect(stream), [])

  const finished = generateStream(id, question, greedy)
  t.is(join(await collect(finished)).text, answer)
  t.like(await finished.return(), { done: true })
})

test('return() answers next() calls that wait', async (t) => {
  const id = await embeddedId()
  const stream = generateStream(id, 'x', endless)
  // More than can have been made by the time of return().
  const waiting = Array.from({ length: 1000 }, () => stream.next())
  await stream.return()
  t.true((await Promise.all(waiting)).at(-1)?.done)
})

test('throw() ends the request and rejects with what it is given', async (t) => {
  const id = await embeddedId()
  for (const thrown of [new Error('mine'), 'a string', undefined]) {
    const stream = generateStream(id, 'x', endless)
    await stream.next()
    t.is(await rejection(stream.throw(thrown)), thrown)
    t.true((await stream.next()).done)
  }
})

const reasons: unknown[] = [new Error('mine'), 'a string', { an: 'object' }, 5, null]

test('a signal that has fired already: nothing is done, the reason is kept', async (t) => {
  const id = await embeddedId()
  for (const reason of reasons) {
    const signal = AbortSignal.abort(reason)
    t.is(await rejection(generate(id, 'x', { ...endless, signal })), reason)
    const stream = generateStream(id, 'x', { ...endless, signal })
    t.is(await rejection(stream.next()), reason)
    t.true((await stream.next()).done)
    t.is(listeners(signal), 0)
  }
})

test('without a reason of your own it is an AbortError', async (t) => {
  const id = await embeddedId()
  const controller = new AbortController()
  const generation = generate(id, 'x', { ...endless, signal: controller.signal })
  controller.abort()
  const reason = (await rejection(generation)) as DOMException
  t.is(reason, controller.signal.reason)
  t.is(reason.name, 'AbortError')
})

test('a signal that fires later ends generate with its reason', async (t) => {
  const id = await embeddedId()
  for (const reason of reasons) {
    const controller = new AbortController()
    const { signal } = controller
    const generation = generate(id, 'Once upon a time', { ...endless, signal })
    t.is(listeners(signal), 1)
    // Let it get going: a request that came later on the same model has an answer.
    await generate(id, question, greedy)
    controller.abort(reason)
    t.is(await rejection(generation), reason)
    t.is(listeners(signal), 0)
  }
})

test('a signal that fires between two next() rejects the following one, once', async (t) => {
  const id = await embeddedId()
  for (const reason of reasons) {
    const controller = new AbortController()
    const { signal } = controller
    const stream = generateStream(id, 'Once upon a time', { ...endless, signal })
    t.false((await stream.next()).done)
    t.is(listeners(signal), 1)
    controller.abort(reason)
    t.is(await rejection(stream.next()), reason)
    t.true((await stream.next()).done)
    t.is(listeners(signal), 0)
  }
})

test('a signal that fires while next() calls wait rejects the first of them', async (t) => {
  const id = await embeddedId()
  const controller = new AbortController()
  const stream = generateStream(id, 'Once upon a time', { ...endless, signal: controller.signal })
  const waiting = Array.from({ length: 1000 }, () => stream.next())
  const reason = new Error('enough')
  controller.abort(reason)
  const settled = await Promise.allSettled(waiting)
  const first = settled.findIndex(({ status }) => status === 'rejected')
  t.true(first >= 0)
  t.is((settled[first] as PromiseRejectedResult).reason, reason)
  const rest = settled.slice(first + 1) as PromiseFulfilledResult<IteratorResult<TokenChunk, void>>[]
  t.true(rest.every(({ status, value }) => status === 'fulfilled' && value.done))
})

test('a signal may time out, and may end many requests', async (t) => {
  const id = await embeddedId()
  const timeout = AbortSignal.timeout(20)
  const reason = (await rejection(generate(id, 'x', { ...endless, signal: timeout }))) as DOMException
  t.is(reason.name, 'TimeoutError')

  const controller = new AbortController()
  const { signal } = controller
  const generations = Array.from({ length: 5 }, () => rejection(generate(id, 'x', { ...endless, signal })))
  const streams = Array.from({ length: 5 }, () => rejection(collect(generateStream(id, 'x', { ...endless, signal }))))
  t.is(listeners(signal), 10)
  await turn()
  const enough = new Error('enough')
  controller.abort(enough)
  for (const reason of await Promise.all([...generations, ...streams])) t.is(reason, enough)
  t.is(listeners(signal), 0)
})

test('a signal for many requests is no leak to warn of, and a limit that was set stays', async (t) => {
  const id = await embeddedId()
  let warnings = 0
  const warned = ({ name }: Error) => {
    if (name === 'MaxListenersExceededWarning') warnings++
  }
  process.on('warning', warned)
  t.teardown(() => process.off('warning', warned))
  const ask = (signal: AbortSignal) =>
    Array.from({ length: 12 }, () => generate(id, question, { ...greedy, maxTokens: 1, signal }))

  const { signal } = new AbortController()
  const many = ask(signal)
  t.is(listeners(signal), 12)
  await Promise.all(many)
  await turn()
  t.is(warnings, 0)

  const limited = new AbortController().signal
  setMaxListeners(11, limited)
  await Promise.all(ask(limited))
  await turn()
  t.is(warnings, 1)
})

test('a signal that does not fire is let go of, whatever the end', async (t) => {
  const id = await embeddedId()
  const { signal } = new AbortController()
  t.is((await generate(id, question, { ...greedy, signal })).text, answer)
  t.is(join(await collect(generateStream(id, question, { ...greedy, signal }))).text, answer)
  const long = new Uint32Array(600).fill(305)
  await t.throwsAsync(generate(id, long, { signal }), { code: 'ERR_REALM_CONTEXT_OVERFLOW' })
  await t.throwsAsync(collect(generateStream(id, long, { signal })), { code: 'ERR_REALM_CONTEXT_OVERFLOW' })
  await generateStream(id, 'x', { ...endless, signal }).return()
  await rejection(generateStream(id, 'x', { ...endless, signal }).throw(new Error('mine')))
  t.is(listeners(signal), 0)
})

test('onabort handlers of others are left alone', async (t) => {
  const id = await embeddedId()
  const controller = new AbortController()
  let called = 0
  controller.signal.onabort = () => {
    called++
  }
  const generation = generate(id, 'x', { ...endless, signal: controller.signal })
  controller.abort('why')
  t.is(await rejection(generation), 'why')
  t.is(called, 1)
})

test('a stream that is forgotten ends its request when it is collected', async (t) => {
  const id = await embeddedId()
  const { signal } = new AbortController()
  const forget = async (): Promise<WeakRef<object>> => {
    const stream = generateStream(id, 'Once upon a time', { ...endless, signal })
    await stream.next()
    t.is(listeners(signal), 1)
    return new WeakRef(stream)
  }
  const stream = await forget()
  t.true(await collectGarbageUntil(() => stream.deref() === undefined && listeners(signal) === 0))
})

test('after many cancelled requests there is room for more', async (t) => {
  const id = await embeddedId()
  for (let i = 0; i < 100; i++) {
    for await (const _ of generateStream(id, `${i} times upon a time`, endless)) break
  }
  const streams = Array.from({ length: 100 }, (_, i) => generateStream(id, `${i}`, endless))
  await Promise.all(streams.map((stream) => stream.return()))
  t.is((await generate(id, question, greedy)).text, answer)
})

test('aborted while it waits, reads its prompt or writes: the others do not notice', async (t) => {
  const id = await storeModel(fixture('stories260K', 'stories260K-q8_0.gguf'))
  const prompt = (i: number, length: number): number[] => Array.from({ length }, (_, j) => 10 + ((i + 7 * j) % 400))
  const options = { ...greedy, ignoreEos: true, maxTokens: 60 }
  const expected = await Promise.all([1, 2, 3].map((i) => generate(id, prompt(i, 20), options)))
  for (let round = 0; round < 10; round++) {
    const controllers = Array.from({ length: 100 }, () => new AbortController())
    // More than run at once, so some wait; long prompts and long answers.
    const ended = controllers.map(({ signal }, i) =>
      rejection(generate(id, prompt(i, i % 2 === 0 ? 400 : 3), { ...endless, signal })),
    )
    const others = [1, 2, 3].map((i) => generate(id, prompt(i, 20), { ...options, priority: 1 }))
    for (const [i, controller] of controllers.entries()) {
      if (i % 10 === 0) await turn()
      controller.abort(i)
    }
    t.deepEqual(await Promise.all(ended), [...controllers.keys()])
    const answers = await Promise.all(others)
    t.deepEqual(
      answers.map(({ tokens }) => tokens),
      expected.map(({ tokens }) => tokens),
    )
  }
})

test('what cancelled requests held is free again', async (t) => {
  const id = await storeModel(fixture('stories260K', 'stories260K-q4_0.gguf'))
  const streams = Array.from({ length: 30 }, (_, i) => generateStream(id, [5, 6, 7 + i], endless))
  await Promise.all(streams.map((stream) => stream.next()))
  t.true(getStats(id).pagesUsed > 0)
  await Promise.all(streams.map((stream) => stream.return()))
  while (getStats(id).running > 0) await turn()
  t.like(getStats(id), { pagesUsed: 0, queued: 0, cancelled: 30 })
})

test('removing a model ends what runs and what waits on it', async (t) => {
  const id = await storeModel(fixture('stories260K', 'stories260K-f32.gguf'))
  // The first of them: more than run at once come after it, and none of them ends.
  const stream = generateStream(id, [5, 6, 7], endless)
  const generations = Array.from({ length: 80 }, () => rejection(generate(id, [5, 6, 7], endless)))
  await stream.next()
  t.true(removeModel(id))
  for (const error of await Promise.all(generations)) t.like(error, { code: 'ERR_REALM_MODEL_REMOVED' })
  await t.throwsAsync(collect(stream), { code: 'ERR_REALM_MODEL_REMOVED' })
  t.true(systemInfo().cacheUsedBytes >= 0)
})

test('a process ends by itself after its requests were cancelled, and at once with process.exit()', async (t) => {
  const requests = `
    const options = { maxTokens: 1e6, ignoreEos: true, overflow: 'shift' }
    realm.storeModel(realm.embeddedModel).then(async (id) => {
      const abort = new AbortController()
      const long = Array.from({ length: 500 }, (_, i) => 300 + i)
      const streams = [1, 2, 3].map((i) => realm.generateStream(id, [i, ...long], options))
      const answers = [1, 2, 3].map((i) => realm.generate(id, [i, ...long], { ...options, signal: abort.signal }))
      await Promise.all(streams.map((stream) => stream.next()))`
  const left = await run(`${requests}
      abort.abort(new Error('enough'))
      for (const stream of streams) await stream.return()
      for (const { status, reason } of await Promise.allSettled(answers)) console.log(status, reason.message)
    })`)
  t.deepEqual(left, { code: 0, stdout: 'rejected enough\n'.repeat(3), stderr: '' })
  const exit = await run(`${requests}
      console.log('going')
      process.exit(7)
    })`)
  t.deepEqual(exit, { code: 7, stdout: 'going\n', stderr: '' })
})
