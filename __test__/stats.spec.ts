// What can be seen of the engine from outside.
import { channel } from 'node:diagnostics_channel'
import test from 'ava'
import { generate, generateStream, getStats, type RequestEvent, storeModel } from '../index.js'
import { fixture, run } from './helpers.js'
import { collect, endless, greedy, noModel, rejection } from './support.js'

const model = (): Promise<string> => storeModel(fixture('stories260K', 'stories260K-q8_0.gguf'))

test.serial('getStats counts requests, tokens, pages and steps', async (t) => {
  const id = await model()
  const before = getStats(id)
  t.like(before, { queued: 0, running: 0, paused: 0, finished: 0, cancelled: 0, failed: 0, steps: 0, pagesUsed: 0 })
  t.true(before.pageBytes > 0)
  const prompt = Array.from({ length: 100 }, (_, i) => 10 + i)
  await generate(id, prompt, { ...greedy, ignoreEos: true, maxTokens: 10 })
  await generate(id, prompt, { ...greedy, ignoreEos: true, maxTokens: 10 })
  // The answer of a step may be here before the step is counted.
  while (getStats(id).steps < 20) await new Promise((resolve) => setTimeout(resolve, 1))
  const after = getStats(id)
  t.like(after, {
    queued: 0,
    running: 0,
    finished: 2,
    cancelled: 0,
    failed: 0,
    promptTokens: 200,
    cachedTokens: 99,
    completionTokens: 20,
    pagesCached: 2,
    pagesUsed: 2,
    pagesShared: 0,
    pagesEvicted: 0,
  })
  // The first prompt is read at once, the second is known but for its last token.
  t.is(after.steps, 20)
  t.true(after.stepP50Ms > 0 && after.stepP50Ms <= after.stepP99Ms && after.stepP99Ms <= after.stepMaxMs)
  t.true(after.stepMeanMs > 0)
})

test.serial('how fast prompts are read is still known when the model was idle', async (t) => {
  const id = await model()
  const steps = async (firstToken: number): Promise<number> => {
    const before = getStats(id).steps
    const prompt = Array.from({ length: 200 }, (_, i) => firstToken + i)
    await generate(id, prompt, { ...greedy, maxTokens: 1 })
    // The answer of a step may be here before the step is counted.
    while (getStats(id).steps === before) await new Promise((resolve) => setTimeout(resolve, 1))
    await new Promise((resolve) => setTimeout(resolve, 50))
    return getStats(id).steps - before
  }
  await steps(20)
  t.is(await steps(220), 1)
  t.is(await steps(240), 1)
})

test.serial('getStats sees requests that run, wait for a reader, and leave', async (t) => {
  const id = await model()
  const { cancelled, failed } = getStats(id)
  const streams = Array.from({ length: 3 }, () => generateStream(id, [5, 6, 7], endless))
  for (const stream of streams) await stream.next()
  while (getStats(id).paused < 3) await new Promise((resolve) => setTimeout(resolve, 1))
  t.is(getStats(id).running, 3)
  for (const stream of streams) await stream.return()
  while (getStats(id).running > 0) await new Promise((resolve) => setTimeout(resolve, 1))
  t.is(getStats(id).cancelled, cancelled + 3)
  await rejection(generate(id, [1_000_000], greedy))
  t.is(getStats(id).failed, failed + 1)
  t.throws(() => getStats(noModel), { code: 'ERR_REALM_MODEL_NOT_FOUND' })
})

test.serial('requests are published on a diagnostics channel', async (t) => {
  const id = await model()
  const events: [string, RequestEvent][] = []
  const listen = (name: string): (() => void) => {
    const listener = (message: unknown): void => {
      events.push([name, message as RequestEvent])
    }
    channel(`realm-node.request.${name}`).subscribe(listener)
    return () => channel(`realm-node.request.${name}`).unsubscribe(listener)
  }
  const stop = [listen('start'), listen('end')]
  const answer = await generate(id, [5, 6], { ...greedy, maxTokens: 3 })
  const chunks = await collect(generateStream(id, [5, 6], { ...greedy, maxTokens: 3 }))
  for await (const _ of generateStream(id, [5, 6], endless)) break
  const error = await rejection(generate(id, [1_000_000], greedy))
  const reason = new Error('mine')
  const abandoned = generateStream(id, [5], { ...endless, signal: AbortSignal.abort(reason) })
  t.is(await rejection(abandoned.next()), reason)
  t.true((await abandoned.next()).done)
  stop.forEach((stop) => {
    stop()
  })
  await generate(id, [5, 6], { ...greedy, maxTokens: 3 })

  const of = (name: string): RequestEvent[] => events.filter(([other]) => other === name).map(([, event]) => event)
  t.deepEqual(
    of('start').map(({ method }) => method),
    ['generate', 'generateStream', 'generateStream', 'generate', 'generateStream'],
  )
  const [whole, streamed, left, failed, aborted, ...more] = of('end')
  t.deepEqual(more, [])
  t.like(whole, { method: 'generate', modelId: id, usage: answer.usage, finishReason: answer.finishReason })
  t.like(streamed, { method: 'generateStream', usage: chunks.at(-1)?.usage, timings: chunks.at(-1)?.timings })
  t.is(left.cancelled, true)
  t.is(failed.error, error)
  t.is(aborted.error, reason)
  t.is(new Set(of('start').map(({ request }) => request)).size, 5)
})

test('a rejection that nobody handles stays one while somebody listens', async (t) => {
  const { code, stdout } = await run(`
    require('node:diagnostics_channel').channel('realm-node.request.end').subscribe(() => {})
    process.on('unhandledRejection', (error) => console.log(error.code))
    realm.storeModel(realm.embeddedModel).then((id) => void realm.generate(id, [1_000_000]))`)
  t.deepEqual([code, stdout], [0, 'ERR_REALM_INVALID_ARGUMENT\n'])
})
