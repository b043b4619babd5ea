#!/usr/bin/env node
// Many streams at once: tokens per second of 8 streams beside one stream, ours and node-llama-cpp's with as many sequences;
// 8 requests that share their first tokens, with and without the sharing; the event loop meanwhile.
//
// Each measurement is a process of its own and the engines take turns, as in run.mjs.
import { fork } from 'node:child_process'
import { createRequire } from 'node:module'
import os from 'node:os'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { findModel, randomPrompt } from './models.mjs'
import { circumstances, median, publish, short, table } from './report.mjs'

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: 'tinyllama' },
    threads: { type: 'string', default: '2' },
    streams: { type: 'string', default: '8' },
    prompt: { type: 'string', default: '128' },
    tokens: { type: 'string', default: '64' },
    shared: { type: 'string', default: '512' },
    rounds: { type: 'string', default: '3' },
    name: { type: 'string', default: 'concurrency' },
    'no-peer': { type: 'boolean', default: false },
  },
})

const realm = {
  async start({ path, threads }) {
    const { configure, generateStream, storeModel, systemInfo } = createRequire(import.meta.url)('..')
    configure({ threads })
    const id = await storeModel(path)
    return {
      async *generate(prompt, maxTokens, cachePrompt) {
        const options = { maxTokens, temperature: 0, ignoreEos: true, cachePrompt }
        for await (const { tokens } of generateStream(id, Uint32Array.from(prompt), options)) yield tokens.length
      },
      about: () => `realm-node ${systemInfo().version}, ${systemInfo().instructionSet}`,
    }
  },
}

const peer = {
  async start({ path, threads, streams, contextSize }) {
    const { getLlama } = await import('node-llama-cpp')
    const llama = await getLlama({
      gpu: false,
      build: 'never',
      skipDownload: true,
      maxThreads: threads,
      logLevel: 'error',
    })
    const model = await llama.loadModel({ modelPath: path })
    const flashAttention = model.flashAttentionSupported
    const context = await model.createContext({ contextSize, sequences: streams, threads, flashAttention })
    const sequences = Array.from({ length: streams }, () => context.getSequence())
    return {
      async *generate(prompt, maxTokens) {
        const sequence = sequences.pop()
        await sequence.clearHistory()
        let made = 0
        for await (const _ of sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
          yield 1
          if (++made === maxTokens) break
        }
        sequences.push(sequence)
      },
      about: () => `llama.cpp ${llama.llamaCppRelease.release} (${llama.buildType})`,
    }
  },
}

/** All prompts at once; milliseconds from the first call, and tokens per second once every stream has begun. */
async function together(engine, prompts, maxTokens, cachePrompt = true) {
  const begun = performance.now()
  let waiting = prompts.length
  let total = 0
  let steady
  await Promise.all(
    prompts.map(async (prompt) => {
      let first = true
      for await (const count of engine.generate(prompt, maxTokens, cachePrompt)) {
        if (count === 0) continue
        total += count
        if (first && --waiting === 0) steady = { at: performance.now(), total }
        first = false
      }
    }),
  )
  const ended = performance.now()
  return { ms: ended - begun, steadyPerSecond: (1000 * (total - steady.total)) / (ended - steady.at), total }
}

async function measure({ engine: name, kind, prompts, tokens, ...options }) {
  const engine = await (name === 'realm-node' ? realm : peer).start(options)
  await together(engine, [randomPrompt(32)], 2)
  const histogram = monitorEventLoopDelay({ resolution: 1 })
  histogram.enable()
  const result = await together(engine, prompts, tokens, kind !== 'apart')
  histogram.disable()
  return { about: engine.about(), ...result, loopP99Ms: histogram.percentile(99) / 1e6, loopMaxMs: histogram.max / 1e6 }
}

if (process.send) {
  process.once('message', async (job) => {
    const answer = await measure(job).catch((error) => ({ error: error.stack }))
    process.send(answer, () => process.exit())
  })
} else {
  await main()
}

function inProcess(job) {
  return new Promise((resolve, reject) => {
    const child = fork(fileURLToPath(import.meta.url))
    child.once('message', (answer) => (answer.error ? reject(new Error(answer.error)) : resolve(answer)))
    child.once('exit', (code) => reject(new Error(`a measurement ended with ${code}`)))
    child.send(job)
  })
}

async function main() {
  const model = findModel(values.model)
  const [threads, streams, length, tokens, shared, rounds] = [
    values.threads,
    values.streams,
    values.prompt,
    values.tokens,
    values.shared,
    values.rounds,
  ].map(Number)
  const samples = []
  const engines = values['no-peer'] ? ['realm-node'] : ['realm-node', 'node-llama-cpp']
  const run = async (engine, kind, prompts, count) => {
    const contextSize = prompts[0].length + count + 1
    const loadAverage = os.loadavg()[0]
    const job = {
      engine,
      kind,
      path: model.path,
      threads,
      streams: prompts.length,
      contextSize,
      prompts,
      tokens: count,
    }
    samples.push({ engine, kind, loadAverage, ...(await inProcess(job)) })
  }
  for (let round = 0; round < rounds; round++) {
    const many = Array.from({ length: streams }, () => randomPrompt(length))
    for (const engine of engines) {
      await run(engine, 'one', [randomPrompt(length)], tokens)
      await run(engine, 'many', many, tokens)
    }
    const beginning = randomPrompt(shared)
    const sharing = Array.from({ length: streams }, () => [...beginning, ...randomPrompt(16)])
    await run('realm-node', 'apart', sharing, 16)
    await run('realm-node', 'sharing', sharing, 16)
  }
  const of = (engine, kind, read) => median(samples.filter((s) => s.engine === engine && s.kind === kind).map(read))
  const perSecond = ({ total, ms }) => (1000 * total) / ms
  const rows = engines.map((engine) => {
    const one = of(engine, 'one', perSecond)
    const many = of(engine, 'many', perSecond)
    const steadyOne = of(engine, 'one', (s) => s.steadyPerSecond)
    const steadyMany = of(engine, 'many', (s) => s.steadyPerSecond)
    const loop = of(engine, 'many', (s) => s.loopP99Ms)
    const cells = [one, many, many / one, steadyOne, steadyMany, steadyMany / steadyOne, loop]
    return [engine, ...cells.map(short)]
  })
  const apart = of('realm-node', 'apart', ({ ms }) => ms)
  const together = of('realm-node', 'sharing', ({ ms }) => ms)
  publish(
    values.name,
    `${streams} streams at once`,
    circumstances(),
    [...new Set(samples.map(({ about }) => about))],
    [
      `${model.name}, ${threads} threads, ${tokens} tokens after prompts of ${length}; medians of ${rounds} rounds. Tokens/s count from the call, prompts included; *writing* counts from the moment on when every stream has its first token.`,
      table(
        [
          'engine',
          'one, t/s',
          `${streams}, t/s`,
          'ratio',
          'writing: one, t/s',
          `${streams}, t/s`,
          'ratio',
          'event loop p99 ms',
        ],
        rows,
      ),
      `${streams} requests of ${shared} + 16 tokens with the same first ${shared}, 16 tokens each, from the first call to the last token:`,
      table(['without sharing ms', 'sharing ms', 'ratio'], [[apart, together, together / apart].map(short)]),
    ],
    samples,
  )
}
