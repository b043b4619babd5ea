#!/usr/bin/env node
// How long after `abort()` a request that reads a long prompt rejects. Each request is aborted at a random moment of its
// prompt, so that early and late parts of it, with little and much to attend to, are all met.
import { createRequire } from 'node:module'
import os from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { findModel, randomPrompt } from './models.mjs'
import { circumstances, publish, quantile, short, table } from './report.mjs'

const { configure, generateStream, storeModel, systemInfo } = createRequire(import.meta.url)('..')

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: 'tinyllama' },
    threads: { type: 'string', default: '2' },
    prompt: { type: 'string', default: '2000' },
    trials: { type: 'string', default: '100' },
    name: { type: 'string', default: 'cancel' },
  },
})

/** Milliseconds from the call to the first token. */
async function readWhole(id, length) {
  const start = performance.now()
  const stream = generateStream(id, Uint32Array.from(randomPrompt(length)), { maxTokens: 1, ignoreEos: true })
  await stream.next()
  const elapsed = performance.now() - start
  await stream.return()
  return elapsed
}

/** Milliseconds from `abort()` to the rejection, or undefined when the prompt was read before. */
async function abortAfter(id, length, delay) {
  const abort = new AbortController()
  const prompt = Uint32Array.from(randomPrompt(length))
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
  await stream.return()
  return rejected && rejected - aborted
}

const model = findModel(values.model)
const threads = Number(values.threads)
const length = Number(values.prompt)
configure({ threads })
const id = await storeModel(model.path)
const wholeMs = await readWhole(id, length)
const samples = []
while (samples.length < Number(values.trials)) {
  const delayMs = Math.random() * 0.9 * wholeMs
  const loadAverage = os.loadavg()[0]
  const latencyMs = await abortAfter(id, length, delayMs)
  if (latencyMs !== undefined) samples.push({ delayMs, latencyMs, loadAverage })
}

const latencies = samples.map(({ latencyMs }) => latencyMs)
const at = (q) => short(quantile(latencies, q))
const { version, instructionSet } = systemInfo()
publish(
  values.name,
  'From abort() to the rejection',
  circumstances(),
  [`realm-node ${version}, ${instructionSet}`],
  [
    table(
      ['model', 'threads', 'prompt', 'whole prompt ms', 'trials', 'p50 ms', 'p90 ms', 'p99 ms', 'worst ms'],
      [
        [
          model.name,
          String(threads),
          String(length),
          short(wholeMs),
          String(latencies.length),
          at(0.5),
          at(0.9),
          at(0.99),
          at(1),
        ],
      ],
    ),
  ],
  samples,
)
