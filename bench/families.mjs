#!/usr/bin/env node
// Whether a family falls off the fast path: the speed of each model beside what its arithmetic predicts from that of llamas
// in the same round.
//
// A token of a prompt costs the products of weights that it meets; its share of unpacking all weights of the step, which is
// worth a few more rows; the products with keys and values of the tokens before it; and passes over the inputs and outputs
// of each matrix (norms, quantising, activations, sums). A generated token costs the bytes of the weights that it meets.
//
// Once a product costs in every block format what it costs in TinyLlama; and once, for prompts, what it costs in a llama of
// that format, for processors that take more instructions for some of them.
import { createRequire } from 'node:module'
import os from 'node:os'
import { parseArgs } from 'node:util'
import { inFreshProcess } from './child.mjs'
import { FAMILY_NAMES, findModel, MODEL_NAMES, REFERENCE_NAMES, randomPrompt } from './models.mjs'
import { circumstances, median, publish, short, table } from './report.mjs'

const { values } = parseArgs({
  options: {
    threads: { type: 'string', default: '2' },
    prompt: { type: 'string', default: '512' },
    rounds: { type: 'string', default: '5' },
    name: { type: 'string', default: 'predicted' },
  },
})
const [threads, promptLength, rounds] = [values.threads, values.prompt, values.rounds].map(Number)

/** Rows of a step of a prompt, without experts and with, and to how many more rows unpacking comes (few tokens beside many). */
const STEP_ROWS = [256, 512]
const UNPACKING_ROWS = 3.5
/**
 * What a product with a key or value, and a number that goes into or comes out of a matrix, cost, in products with weights: from
 * a profile of TinyLlama's prompt (82 % products with weights, 8 % attention, 10 % the rest).
 */
const ATTENTION = 4.2
const NUMBER = 150

/** The llama that says what a product costs in a format; in others it costs what it does in TinyLlama. */
const REFERENCES = { Q4_0: 'llama-3.2-1b-q4_0', Q8_0: 'llama-8-layers-q8_0', MXFP4: 'llama-6-layers-mxfp4' }

const models = [...MODEL_NAMES, ...REFERENCE_NAMES, ...FAMILY_NAMES].map(findModel)
const about = circumstances()
const costs = await Promise.all(models.map(({ path }) => cost(path)))
const samples = []
for (let round = 1; round <= rounds; round++) {
  const [warmUp, prompt] = [32, promptLength].map(randomPrompt)
  for (const { name, path } of models) {
    console.error(`round ${round}, ${name}`)
    const loadAverage = os.loadavg()[0]
    const job = { engine: 'realm-node', path, threads, contextSize: promptLength + 64, warmUp, prompt, generate: 64 }
    samples.push({ model: name, round, loadAverage, ...(await inFreshProcess(job)) })
  }
}
publish(
  values.name,
  'Each family beside what its arithmetic predicts',
  about,
  [samples[0].about],
  [
    `Prompts of ${promptLength} and 64 tokens after them, ${threads} threads, ${rounds} rounds: median speed, and the median of speed / prediction. In the second column of predictions a product costs what it does in a llama of the same format (${Object.values(REFERENCES).join(', ')}, which therefore have 1 there).`,
    table(
      ['model', 'prompt t/s', 'of predicted', 'by formats', 'generation t/s', 'of predicted'],
      models.map(({ name }, i) => {
        const prompts = speeds(i, 'promptTokensPerSecond')
        const answers = speeds(i, 'generateTokensPerSecond')
        const numbers = [
          median(prompts),
          median(prompts.map((found, round) => found * alike(costs[i], round))),
          median(prompts.map((found, round) => found * byFormats(costs[i], round))),
          median(answers),
          median(answers.map((found, round) => (found * costs[i].bytes) / speedOfBytes(round))),
        ]
        return [name, ...numbers.map(short)]
      }),
    ),
  ],
  samples,
)

function speeds(i, which) {
  return samples.filter(({ model }) => model === models[i].name).map((sample) => sample[which])
}

/** Bytes of weights that TinyLlama reads in a second. */
function speedOfBytes(round) {
  return speeds(0, 'generateTokensPerSecond')[round] * costs[0].bytes
}

/** Seconds of TinyLlama's for a product. */
function product(round) {
  return 1 / speeds(0, 'promptTokensPerSecond')[round] / total(costs[0])
}

/** Seconds that a token of a prompt should take if products cost the same in all formats. */
function alike(cost, round) {
  return total(cost) * product(round)
}

/** And if they cost what they do in a llama of the format. */
function byFormats({ products, rest }, round) {
  const each = Object.entries(products).map(([type, count]) => count * productIn(type, round))
  return sum(each) + rest * product(round)
}

/** Seconds for a product in a format: what is left of its reference's time. */
function productIn(type, round) {
  const reference = models.findIndex(({ name }) => name === REFERENCES[type])
  if (reference < 0) return product(round)
  const { [type]: own, ...products } = costs[reference].products
  const known = byFormats({ ...costs[reference], products }, round)
  return (1 / speeds(reference, 'promptTokensPerSecond')[round] - known) / own
}

function total({ products, rest }) {
  return sum(Object.values(products)) + rest
}

function sum(numbers) {
  return numbers.reduce((total, number) => total + number, 0)
}

/** What a token of a prompt costs, in products with weights by their format; and the bytes that a token of an answer reads. */
async function cost(path) {
  const { getMetadata, listTensors, removeModel, storeModel } = createRequire(import.meta.url)('..')
  const id = await storeModel(path)
  const metadata = getMetadata(id)
  const key = (name, usual) => metadata[`${metadata['general.architecture']}.${name}`] ?? usual
  const heads = key('attention.head_count')
  const headDim = key('attention.key_length', key('embedding_length') / heads)
  const share = key('expert_used_count', 0) / key('expert_count', 1)
  const unpacking = UNPACKING_ROWS / Math.min(promptLength, STEP_ROWS[share > 0 ? 1 : 0])
  const tensors = listTensors(id).filter(({ shape }) => shape.length > 1)
  removeModel(id)

  const output =
    tensors.find(({ name }) => name === 'output.weight') ?? tensors.find(({ name }) => name === 'token_embd.weight')
  const products = {}
  let rest = key('block_count') * heads * headDim * promptLength * ATTENTION
  let bytes = output.byteLength
  for (const { shape, type, byteLength } of tensors.filter(({ name }) => name.startsWith('blk.'))) {
    const [rows, columns] = shape.slice(-2)
    const weights = shape.reduce((product, size) => product * size)
    const isExperts = shape.length === 3
    const met = isExperts ? share : 1
    const passes = isExperts ? key('expert_used_count') : 1
    products[type] = (products[type] ?? 0) + weights * (met + unpacking)
    rest += (rows + columns) * passes * NUMBER
    bytes += byteLength * met
  }
  return { products, rest, bytes }
}
