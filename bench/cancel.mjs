#!/usr/bin/env node
// How long after `abort()` a request that reads a long prompt rejects, and how long until the cores are idle. Each request
// begins with a part of random length of a prompt that is known already and is aborted a moment later, so that early and
// late parts, with little and much to attend to, are all met. Then the memory after many requests that were cancelled.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import os from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { findModel, randomPrompt } from './models.mjs'
import { circumstances, mebibytes, publish, quantile, short, table } from './report.mjs'

const { configure, generateStream, getStats, storeModel, systemInfo } = createRequire(import.meta.url)('..')

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: 'tinyllama' },
    threads: { type: 'string', default: '2' },
    prompt: { type: 'string', default: '4000' },
    trials: { type: 'string', default: '100' },
    cancelled: { type: 'string', default: '500' },
    name: { type: 'string', default: 'cancel' },
  },
})

/** Milliseconds from the call to the first token. */
async function readWhole(id, prompt) {
  const start = performance.now()
  const stream = generateStream(id, Uint32Array.from(prompt), { maxTokens: 1, ignoreEos: true })
  await stream.next()
  const elapsed = performance.now() - start
  await stream.return()
  return elapsed
}

/** Processor time of this process, in milliseconds. */
function busy() {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
}

/** When the engine has let go of everything: no request left, and then no processor time taken for a while. */
async function idleSince(id) {
  while (getStats(id).running > 0) await sleep(0.5)
  let since = performance.now()
  // Workers look for work for a moment before they sleep.
  for (let calm = 0; calm < 5; ) {
    const before = busy()
    const start = performance.now()
    await sleep(1)
    const now = performance.now()
    if (busy() - before < 0.5 * (now - start)) calm += 1
    else [calm, since] = [0, now]
  }
  return since
}

/**
 * Milliseconds from `abort()` to the rejection and to idle cores, or undefined when the prompt was read before.
 * `known` tokens of the prompt are those of `base`.
 */
async function abortAfter(id, base, known, delay) {
  const abort = new AbortController()
  const prompt = Uint32Array.from([...base.slice(0, known), ...randomPrompt(base.length - known)])
  const stream = generateStream(id, prompt, { maxTokens: 1, ignoreEos: true, signal: abort.signal })
  const settled = stream.next().then(
    () => undefined,
    (error) => {
      if (error !== abort.signal.reason) throw error
      return performance.now()
    },
  )
  await sleep(delay)
  const aborted = performance.now()
  abort.abort()
  const rejected = await settled
  const idle = await idleSince(id)
  await stream.return()
  return rejected && { latencyMs: rejected - aborted, idleMs: idle - aborted }
}

/** Resident bytes that no file backs. */
function anonymous() {
  globalThis.gc?.()
  const text = readFileSync('/proc/self/smaps_rollup', 'utf8')
  return 1024 * Number(text.match(/^Anonymous:\s+(\d+) kB$/m)[1])
}

/**
 * Anonymous memory after each hundred of requests that are cancelled at some moment of prompt or answer. What they had
 * read is not kept for others, so nothing of them may stay.
 */
async function memoryAfterCancelling(id, count) {
  const memory = [anonymous()]
  for (let i = 0; i < count; i += 20) {
    const streams = Array.from({ length: 20 }, () =>
      generateStream(id, Uint32Array.from(randomPrompt(100)), { maxTokens: 100, ignoreEos: true, cachePrompt: false }),
    )
    const waiting = streams.map((stream) => stream.next())
    await sleep(Math.random() * 200)
    await Promise.all(streams.map((stream) => stream.return()))
    await Promise.all(waiting)
    if ((i + 20) % 100 === 0) {
      await idleSince(id)
      memory.push(anonymous())
    }
  }
  return memory
}

const model = findModel(values.model)
const threads = Number(values.threads)
const length = Number(values.prompt)
configure({ threads })
const id = await storeModel(model.path)
const base = randomPrompt(length)
const wholeMs = await readWhole(id, base)
const samples = []
while (samples.length < Number(values.trials)) {
  const known = Math.floor(Math.random() * 0.9 * length)
  const delayMs = 100 + Math.random() * 2000
  const loadAverage = os.loadavg()[0]
  const times = await abortAfter(id, base, known, delayMs)
  if (times !== undefined) samples.push({ known, delayMs, ...times, loadAverage })
}
const memory = await memoryAfterCancelling(id, Number(values.cancelled))

const row = (what, read) => {
  const times = samples.map(read)
  const at = (q) => short(quantile(times, q))
  return [what, at(0.5), at(0.9), at(0.99), at(1)]
}
const { version, instructionSet } = systemInfo()
publish(
  values.name,
  'From abort() to the rejection',
  circumstances(),
  [`realm-node ${version}, ${instructionSet}`],
  [
    `${model.name}, ${threads} threads, prompt of ${length} tokens (${short(wholeMs)} ms), ${samples.length} trials`,
    table(
      ['from abort() to', 'p50 ms', 'p90 ms', 'p99 ms', 'worst ms'],
      [row('the rejection', ({ latencyMs }) => latencyMs), row('idle cores', ({ idleMs }) => idleMs)],
    ),
    `Anonymous memory, after each hundred of ${values.cancelled} cancelled requests:`,
    table(
      ['cancelled', 'MiB'],
      memory.map((bytes, i) => [String(100 * i), short(mebibytes(bytes))]),
    ),
  ],
  samples,
)
