// One registry for all worker threads, and workers that go away in the middle of their work.
import { once } from 'node:events'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import test from 'ava'
import { generate, getModelInfo, listModels } from '../index.js'
import { embeddedId, root } from './helpers.js'
import { answer, endless, greedy, question } from './support.js'

/** A worker that runs `script`, which sees `realm`, `parentPort`, `id`, `question`, `greedy` and `endless`. */
function worker(script: string, id: string): Worker {
  const prelude = `
    const { parentPort, workerData: { id, question, greedy, endless } } = require('node:worker_threads');
    const realm = require(${JSON.stringify(join(root, 'index.js'))});`
  return new Worker(prelude + script, { eval: true, workerData: { id, question, greedy, endless } })
}

/** The first message of a worker; an error in it rejects. */
async function message<T>(from: Worker): Promise<T> {
  const [value] = await once(from, 'message')
  return value as T
}

test('an id made on the main thread works in a worker', async (t) => {
  const id = await embeddedId()
  const w = worker(`realm.generate(id, question, greedy).then(({ text }) => parentPort.postMessage(text))`, id)
  t.is(await message(w), answer)
  await w.terminate()
})

test('an id made in a worker works on the main thread, also when the worker is gone', async (t) => {
  const embedded = await embeddedId()
  const w = worker(`realm.storeModel(realm.embeddedModel).then((stored) => parentPort.postMessage(stored))`, embedded)
  const id = await message<string>(w)
  await w.terminate()
  t.is(id, embedded)
  t.is((await generate(id, question, greedy)).text, answer)
})

test('several workers at once share one model', async (t) => {
  const id = await embeddedId()
  const script = `
    (async () => {
      const texts = []
      for (let i = 0; i < 3; i++) {
        let text = ''
        for await (const chunk of realm.generateStream(id, question, greedy)) text += chunk.text
        texts.push(text, (await realm.generate(id, question, greedy)).text)
      }
      parentPort.postMessage({ texts, info: realm.getModelInfo(id) })
    })()`
  const workers = Array.from({ length: 4 }, () => worker(script, id))
  for (const result of await Promise.all(workers.map((w) => message<{ texts: string[]; info: unknown }>(w)))) {
    t.deepEqual(result.texts, new Array(6).fill(answer))
    t.deepEqual(result.info, getModelInfo(id))
  }
  await Promise.all(workers.map((w) => w.terminate()))
  t.is(listModels().filter((model) => model.id === id).length, 1)
})

test('a worker that is terminated in the middle of everything takes nothing with it', async (t) => {
  const id = await embeddedId()
  const script = `
    const { signal } = new AbortController()
    realm.generate(id, 'one', { ...endless, signal })
    const unread = realm.generateStream(id, 'two', endless)
    realm.storeModel(realm.embeddedModel, { signal, onProgress: () => {} })
    realm.storeModel(new Uint8Array(64 << 20)).catch(() => {})
    const cache = new realm.KvCache(id)
    realm.embedTokens(id, [1, 2, 3]).then(async (hidden) => {
      for (let i = 0; ; i += 3) await realm.forwardLayer(id, 0, hidden, i, cache).catch(() => cache.truncate(i = 0))
    })
    ;(async () => {
      for await (const chunk of realm.generateStream(id, 'three', { ...endless, signal })) parentPort.postMessage(chunk.text)
    })()`
  for (let round = 0; round < 5; round++) {
    const workers = Array.from({ length: 3 }, () => worker(script, id))
    await Promise.all(workers.map((w) => message(w)))
    t.deepEqual(await Promise.all(workers.map((w) => w.terminate())), [1, 1, 1])
    t.is((await generate(id, question, greedy)).text, answer)
  }
})

test('a worker that ends by itself ends its requests', async (t) => {
  const id = await embeddedId()
  const w = worker(
    `const stream = realm.generateStream(id, 'x', endless)
     stream.next().then(() => parentPort.postMessage('going'))`,
    id,
  )
  const exit = once(w, 'exit')
  t.is(await message(w), 'going')
  t.deepEqual(await exit, [0])
  t.is((await generate(id, question, greedy)).text, answer)
})
