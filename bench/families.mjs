#!/usr/bin/env node
// Whether a family falls off the fast path: the speed of each model beside what its arithmetic predicts from TinyLlama's in
// the same round.
//
// A token of a prompt costs the products of weights that it meets; its share of unpacking all weights of the step, which is
// worth a few more rows; the products with keys and values of the tokens before it; and passes over the inputs and outputs
// of each matrix (norms, quantising, activations, sums). A generated token costs the bytes of the weights that it meets.
import { createRequire } from 'node:module'
import os from 'node:os'
import { parseArgs } from 'node:util'
import { inFreshProcess } from './child.mjs'
import { FAMILY_NAMES, findModel, MODEL_NAMES, randomPrompt } from './models.mjs'
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

const models = [...MODEL_NAMES, ...FAMILY_NAMES].map(findModel)
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
    `Prompts of ${promptLength} and 64 tokens after them, ${threads} threads, ${rounds} rounds: median speed, and the median of speed / prediction.`,
    table(
      ['model', 'prompt t/s', 'of predicted', 'generation t/s', 'of predicted'],
      models.map(({ name }, i) => [
        name,
        ...compare(i, 'promptTokensPerSecond'),
        ...compare(i, 'generateTokensPerSecond'),
      ]),
    ),
  ],
  samples,
)

/** The median speed of model `i`, and of its ratios to the predictions. */
function compare(i, speed) {
  const of = (model) => samples.filter((sample) => sample.model === model.name).map((sample) => sample[speed])
  const predicted = of(models[0]).map((reference) => (reference * costs[0][speed]) / costs[i][speed])
  return [median(of(models[i])), median(of(models[i]).map((found, round) => found / predicted[round]))].map(short)
}

/** What a token costs, in units that only compare models. */
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
  let prompt = key('block_count') * heads * headDim * promptLength * ATTENTION
  let bytes = output.byteLength
  for (const { shape, byteLength } of tensors.filter(({ name }) => name.startsWith('blk.'))) {
    const [rows, columns] = shape.slice(-2)
    const weights = shape.reduce((product, size) => product * size)
    const isExperts = shape.length === 3
    const met = isExperts ? share : 1
    const passes = isExperts ? key('expert_used_count') : 1
    prompt += weights * (met + unpacking) + (rows + columns) * passes * NUMBER
    bytes += byteLength * met
  }
  return { promptTokensPerSecond: prompt, generateTokensPerSecond: bytes }
}
