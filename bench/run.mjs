#!/usr/bin/env node
// Ours beside node-llama-cpp: A B A B, each measurement in a fresh process, the same fresh prompt for both of a pair.
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import os from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { inFreshProcess } from './child.mjs'
import { ENGINES } from './engines.mjs'
import { FAMILY_NAMES, findModel, MODEL_NAMES, randomPrompt } from './models.mjs'
import { circumstances, publish } from './report.mjs'
import { busyTables, eventLoopTables, speedTables } from './tables.mjs'

const HELP = `Measures realm-node beside node-llama-cpp.

  npm run bench                                        everything; hours on two cores
  npm run bench -- --quick                             a look in a few minutes, not a result
  npm run bench -- --model tinyllama --threads 2 --prompts 512
  npm run bench -- --model tinyllama --busy 1          what each keeps beside one busy process
  npm run bench -- --model tinyllama --eventloop       delay of the event loop, memory that is not mapped

Options, lists with commas:
  --model NAMES      default ${MODEL_NAMES.join(', ')}; also
                     ${FAMILY_NAMES.join(', ')}; how a name begins is enough; or GGUF files
  --threads LIST     default 1,2
  --prompts LIST     tokens in the prompt, thus also the context that generation sees; default 32,512,2048
  --generate N       tokens to generate, default 64
  --rounds N         pairs for each line of the table, default 5
  --quick            TinyLlama, 2 threads, prompt of 32, 2 rounds, unless said otherwise
  --busy N           quiet and beside N busy processes in turn, the first pinned to core 0
  --eventloop        the event loop's delay instead of speeds; default prompt 512
  --name NAME        of the files in bench/results, default: what is measured
  --help             this text
`

const OPTIONS = {
  model: { type: 'string' },
  threads: { type: 'string' },
  prompts: { type: 'string' },
  generate: { type: 'string', default: '64' },
  rounds: { type: 'string' },
  quick: { type: 'boolean', default: false },
  busy: { type: 'string' },
  eventloop: { type: 'boolean', default: false },
  name: { type: 'string' },
  help: { type: 'boolean', default: false },
}

const WARM_UP_TOKENS = 32

function readPlan() {
  const { values } = parseArgs({ options: OPTIONS })
  const { quick, eventloop } = values
  const busy = values.busy === undefined ? 0 : count('busy', values.busy)
  const list = (name, usual) => (values[name] ?? usual).split(',')
  return {
    help: values.help,
    models: list('model', quick ? 'tinyllama' : MODEL_NAMES.join()),
    threads: list('threads', quick ? '2' : '1,2').map((text) => count('threads', text)),
    prompts: list('prompts', quick ? '32' : eventloop ? '512' : '32,512,2048').map((text) => count('prompts', text)),
    generate: Math.max(2, count('generate', values.generate)),
    rounds: count('rounds', values.rounds ?? (quick ? '2' : '5')),
    busy,
    eventLoop: eventloop,
    name: values.name ?? (eventloop ? 'eventloop' : busy ? `busy${busy}` : 'speed') + (quick ? '-quick' : ''),
  }
}

function count(name, text) {
  const number = Number(text)
  if (!Number.isInteger(number) || number < 1)
    throw new Error(`--${name}: expected whole numbers from 1, found '${text}'`)
  return number
}

async function main() {
  const plan = readPlan()
  if (plan.help) return console.log(HELP)
  if (!existsSync(new URL('node_modules/node-llama-cpp', import.meta.url))) {
    throw new Error('node-llama-cpp is missing: npm install --prefix bench --ignore-scripts')
  }
  const models = plan.models.map(findModel)
  const about = circumstances()
  const samples = []
  try {
    await measureAll(plan, models, samples)
  } finally {
    // Hours of measurements must not be lost to a late failure.
    if (samples.length > 0) {
      const engines = [...new Set(samples.flatMap(({ about }) => about ?? []))]
      publish(plan.name, title(plan), about, engines, makeTables(plan, samples), samples)
    }
  }
}

/** Adds to `samples` one complete line of the table after the other. */
async function measureAll(plan, models, samples) {
  for (const model of models) {
    for (const threads of plan.threads) {
      for (const promptLength of plan.prompts) samples.push(...(await measurePoint(plan, model, threads, promptLength)))
    }
  }
}

/** All rounds of one line of the table. */
async function measurePoint(plan, model, threads, promptLength) {
  const samples = []
  for (let round = 1; round <= plan.rounds; round++) {
    const warmUp = randomPrompt(WARM_UP_TOKENS)
    const prompt = randomPrompt(promptLength)
    for (const busy of plan.busy ? [0, plan.busy] : [0]) {
      for (const engine of ENGINES) {
        if (samples.some((sample) => sample.engine === engine && sample.refused)) continue
        const point = { model: model.name, threads, promptLength, round, busy, engine }
        console.error(
          Object.entries(point)
            .map(([key, value]) => `${key} ${value}`)
            .join(', '),
        )
        const loadAverage = os.loadavg()[0]
        const { generate, eventLoop } = plan
        const contextSize = Math.max(promptLength + generate, WARM_UP_TOKENS + 2)
        const job = { engine, path: model.path, threads, contextSize, warmUp, prompt, generate, eventLoop }
        samples.push({ ...point, loadAverage, ...(await beside(busy, () => inFreshProcess(job))) })
      }
    }
  }
  return samples
}

/** Runs `work` while `busy` processes do nothing but compute. */
async function beside(busy, work) {
  const spin = ['sh', '-c', 'while :; do :; done']
  const processes = Array.from({ length: busy }, (_, index) => {
    const [program, ...args] = index === 0 ? ['taskset', '-c', '0', ...spin] : spin
    return spawn(program, args, { stdio: 'ignore' })
  })
  const kill = () => {
    for (const each of processes) each.kill('SIGKILL')
  }
  process.on('exit', kill)
  try {
    if (busy) await sleep(200)
    return await work()
  } finally {
    kill()
    process.off('exit', kill)
  }
}

function title({ eventLoop, busy }) {
  if (eventLoop) return 'The event loop while a model works'
  return busy ? `Beside ${busy} busy ${busy === 1 ? 'process' : 'processes'}` : 'realm-node beside node-llama-cpp'
}

function makeTables({ eventLoop, busy }, samples) {
  if (eventLoop) return eventLoopTables(samples)
  return busy ? busyTables(samples) : speedTables(samples)
}

// A busy process must not outlive an interrupted run.
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1))

main().catch((error) => {
  console.error(error.message)
  process.exitCode = 1
})
