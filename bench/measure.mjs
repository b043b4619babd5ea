// One measurement in a process of its own. The parent sends a job, gets one answer, and the process ends: nothing that
// an engine keeps (memory, threads, caches) reaches the next measurement.
import { readFileSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { startEngine } from './engines.mjs'

process.once('message', async (job) => {
  const answer = await measure(job).catch(failure)
  process.send(answer, () => process.exit())
})

function failure(error) {
  return error.code === 'ERR_REALM_UNSUPPORTED' ? { refused: error.message } : { error: error.stack }
}

function measure(job) {
  return job.eventLoop ? measureEventLoop(job) : measureSpeed(job)
}

async function measureSpeed({ engine: name, path, warmUp, prompt, generate, ...options }) {
  const before = readMemory()
  const start = performance.now()
  const engine = await startEngine(name, options)
  const started = performance.now()
  await engine.load(path)
  const loadMs = performance.now() - started
  const afterLoad = readMemory()
  // Faults pages in and starts threads, so that a short prompt measures arithmetic.
  const first = await request(engine, warmUp, 2)
  const { firstTokenMs, generateMs, generateSteps } = await request(engine, prompt, generate)
  const startMs = started - start
  return {
    about: engine.about(),
    startMs,
    loadMs,
    coldStartMs: startMs + loadMs + first.firstTokenMs,
    firstTokenMs,
    promptTokensPerSecond: (1000 * prompt.length) / firstTokenMs,
    generateTokensPerSecond: (1000 * generateSteps) / generateMs,
    loaded: memoryAbove(before, afterLoad),
    generated: memoryAbove(before, readMemory()),
  }
}

/**
 * Times from outside, the same way for both: the first token ends the prompt, and the clock then covers the others. Where a
 * model begins with tokens that have no text (a synthetic vocabulary is padded with such), they come together with a later
 * one, and the engine's own times are taken.
 */
async function request(engine, prompt, maxTokens) {
  const start = performance.now()
  let first
  let last
  let together = 0
  let generateSteps = 0
  const steps = engine.generate(prompt, maxTokens)
  let step = await steps.next()
  for (; !step.done; step = await steps.next()) {
    const count = step.value
    if (count === 0) continue
    last = performance.now()
    if (first !== undefined) generateSteps += count
    else [first, together] = [last, count]
  }
  if (together > 1) return { ...step.value, generateSteps: together - 1 + generateSteps }
  return { firstTokenMs: first - start, generateMs: last - first, generateSteps }
}

async function measureEventLoop({ engine: name, path, prompt, generate, ...options }) {
  const before = readMemory()
  const phases = {}
  const watch = async (phase, work) => {
    const result = await watchEventLoop(work)
    phases[phase] = { ...result.delay, ...memoryAbove(before, readMemory()) }
    return result.value
  }
  await watch('idle', () => sleep(1000))
  const engine = await startEngine(name, options)
  await watch('load', () => engine.load(path))
  const steps = engine.generate(prompt, generate)
  await watch('prompt', () => steps.next())
  await watch('generation', async () => {
    while (!(await steps.next()).done);
  })
  return { about: engine.about(), phases }
}

async function watchEventLoop(work) {
  const histogram = monitorEventLoopDelay({ resolution: 1 })
  histogram.enable()
  const value = await work()
  // A delay is recorded when the loop turns again.
  await sleep(5)
  histogram.disable()
  const milliseconds = (nanoseconds) => nanoseconds / 1e6
  const delay = {
    p50: milliseconds(histogram.percentile(50)),
    p99: milliseconds(histogram.percentile(99)),
    max: milliseconds(histogram.max),
  }
  return { value, delay }
}

/** Bytes: all that is resident, what of it no file backs, and what no other process could share. */
function readMemory() {
  globalThis.gc?.()
  const text = readFileSync('/proc/self/smaps_rollup', 'utf8')
  const bytes = (field) => 1024 * Number(text.match(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm'))[1])
  return { resident: bytes('Rss'), anonymous: bytes('Anonymous'), privateDirty: bytes('Private_Dirty') }
}

function memoryAbove(before, after) {
  return Object.fromEntries(Object.keys(after).map((key) => [key, after[key] - before[key]]))
}
