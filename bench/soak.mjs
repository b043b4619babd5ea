#!/usr/bin/env node
// Everything at once for a long time: requests of all kinds, aborts, readers that leave or stop reading, models that are
// removed and stored again, workers that are terminated, and hardly any memory. Each answer must be the one that the same
// request had alone; nothing may hang; in the end nothing may be left.
//
//     node bench/soak.mjs --minutes 20
import { createRequire } from 'node:module'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'

const realm = createRequire(import.meta.url)('..')
const { configure, generate, generateStream, getStats, removeModel, storeModel, systemInfo } = realm

const random = (n) => Math.floor(Math.random() * n)
const fixture = (name) => fileURLToPath(new URL(`../../shared/fixtures/stories260K/${name}.gguf`, import.meta.url))

/** Requests whose answers are known. Many share beginnings, of every length. */
function makeRequests(longest, vocabulary) {
  const text = Array.from({ length: longest }, (_, i) => 300 + ((i * 37) % (vocabulary - 300)))
  return Array.from({ length: 40 }, (_, i) => {
    const prompt = [...text.slice(0, random(longest - 130)), 300 + random(20)]
    const kvType = ['f16', 'f16', 'f32', 'q8_0'][i % 4]
    const options = { maxTokens: 1 + random(100), seed: i, ignoreEos: i % 2 === 0, kvType, temperature: i % 3 }
    return [prompt, options]
  })
}

const essence = ({ text, tokens, finishReason }) => JSON.stringify([text, [...tokens], finishReason])

async function read(stream, slow) {
  const answer = { text: '', tokens: [] }
  for await (const chunk of stream) {
    answer.text += chunk.text
    answer.tokens.push(...chunk.tokens)
    answer.finishReason = chunk.finishReason
    if (slow && random(10) === 0) await sleep(random(50))
  }
  return answer
}

/** One request in one of many ways; what it did. */
async function act(id, requests, answers) {
  const i = random(requests.length)
  const [prompt, given] = requests[i]
  const options = { ...given, priority: random(3), cachePrompt: random(5) > 0 }
  const check = (answer) => {
    if (essence(answer) !== answers[i]) {
      throw new Error(`request ${i} has another answer than alone:\n${essence(answer)}\n${answers[i]}`)
    }
  }
  switch (random(6)) {
    case 0:
    case 1:
      check(await generate(id, prompt, options))
      return 'generate'
    case 2:
      check(await read(generateStream(id, prompt, options), false))
      return 'stream'
    case 3:
      check(await read(generateStream(id, prompt, options), true))
      return 'slow stream'
    case 4: {
      const abort = new AbortController()
      const reason = new Error('enough')
      const answer = generate(id, prompt, { ...options, signal: abort.signal }).then(check, (error) => {
        if (error !== reason) throw error
      })
      // Side by side: the answer may fail before it is aborted, and an error must never be without a handler.
      await Promise.all([answer, sleep(random(40)).then(() => abort.abort(reason))])
      return 'aborted'
    }
    default: {
      let left = random(5)
      for await (const _ of generateStream(id, prompt, options)) if (left-- === 0) break
      return 'left'
    }
  }
}

if (isMainThread) {
  await main()
} else {
  const { id, requests, answers } = workerData
  for (;;) {
    await act(id, requests, answers)
    parentPort.postMessage('done')
  }
}

async function main() {
  const { values } = parseArgs({
    options: {
      minutes: { type: 'string', default: '20' },
      actors: { type: 'string', default: '24' },
      pages: { type: 'string', default: '60' },
    },
  })
  const end = performance.now() + Number(values.minutes) * 60_000
  const counts = {}
  const count = (what) => {
    counts[what] = (counts[what] ?? 0) + 1
  }
  const tiny = await storeModel(realm.embeddedModel)
  const requests = makeRequests(480, 2048)
  const answers = []
  for (const [prompt, options] of requests) {
    answers.push(essence(await generate(tiny, prompt, { ...options, cachePrompt: false })))
  }
  const storyRequests = makeRequests(400, 512)
  const stories = fixture('stories260K-q4_0')
  const storyAnswers = []
  const story = await storeModel(stories)
  for (const [prompt, options] of storyRequests) {
    storyAnswers.push(essence(await generate(story, prompt, { ...options, cachePrompt: false })))
  }
  removeModel(story)
  // So little that requests have to wait and to give their memory up.
  configure({ cacheBytes: Number(values.pages) * getStats(tiny).pageBytes })

  /** Ends the process when something takes far too long: nothing may hang. */
  const watched = async (what, work) => {
    const timer = setTimeout(() => {
      console.error(`${what} hangs`, getStats(tiny), systemInfo())
      process.exit(1)
    }, 120_000)
    const result = await work
    clearTimeout(timer)
    return result
  }
  const until = async (work) => {
    while (performance.now() < end) count(await work())
  }
  const actor = () => until(() => watched('a request', act(tiny, requests, answers)))
  const remover = () =>
    until(async () => {
      const id = await watched('storing', storeModel(stories))
      const gone = { code: 'ERR_REALM_MODEL_REMOVED' }
      const running = Array.from({ length: random(6) }, () =>
        act(id, storyRequests, storyAnswers).catch((error) => {
          if (error.code !== gone.code && error.code !== 'ERR_REALM_MODEL_NOT_FOUND') throw error
        }),
      )
      await sleep(random(200))
      removeModel(id)
      await watched('requests on a removed model', Promise.all(running))
      return 'removed'
    })
  const terminator = () =>
    until(async () => {
      const worker = new Worker(fileURLToPath(import.meta.url), { workerData: { id: tiny, requests, answers } })
      const failed = new Promise((_, reject) => worker.once('error', reject))
      const done = new Promise((resolve) => worker.once('message', resolve))
      await watched('a worker', Promise.race([done, failed]))
      await sleep(random(300))
      await watched('a termination', Promise.race([worker.terminate(), failed]))
      return 'terminated'
    })
  const memory = []
  const watcher = () =>
    until(async () => {
      await sleep(Math.min(10_000, Number(values.minutes) * 6000))
      const { cacheUsedBytes, cacheBytes } = systemInfo()
      if (cacheUsedBytes > cacheBytes) throw new Error(`${cacheUsedBytes} bytes of ${cacheBytes} are used`)
      memory.push(Math.round(process.memoryUsage().rss / 2 ** 20))
      console.log(JSON.stringify({ rssMiB: memory.at(-1), ...counts }))
      return 'watched'
    })
  const actors = Array.from({ length: Number(values.actors) }, actor)
  await Promise.all([...actors, remover(), remover(), terminator(), watcher()])

  while (getStats(tiny).running > 0) await sleep(1)
  const { finished, cancelled, failed, preempted, pagesEvicted, pagesShared, cachedTokens, queued } = getStats(tiny)
  console.log({ finished, cancelled, failed, preempted, pagesEvicted, cachedTokens })
  if (queued !== 0 || pagesShared !== 0 || failed !== 0)
    throw new Error(`something is left: ${JSON.stringify(getStats(tiny))}`)
  removeModel(tiny)
  if (systemInfo().cacheUsedBytes !== 0) throw new Error(`${systemInfo().cacheUsedBytes} bytes of cache are left`)
  // The last fifth beside the second: the first is warming up.
  const fifth = Math.max(1, Math.floor(memory.length / 5))
  const mean = (list) => list.reduce((sum, x) => sum + x, 0) / list.length
  const [early, late] = [mean(memory.slice(fifth, 2 * fifth)), mean(memory.slice(-fifth))]
  console.log(`resident MiB: ${early.toFixed(0)} early, ${late.toFixed(0)} late`)
  console.log('every answer was the one that the request had alone; nothing hung; nothing is left')
}
