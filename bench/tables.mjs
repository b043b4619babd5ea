// Samples to tables. A line of a table is one model, number of threads and prompt; its ratios are medians over rounds of
// the two values of a round, which saw the same prompt and nearly the same machine.
import { ENGINES } from './engines.mjs'
import { mebibytes, median, short, table } from './report.mjs'

const [OURS, THEIRS] = ENGINES

const SPEEDS = [
  ['load ms', (sample) => sample.loadMs],
  ['cold start ms', (sample) => sample.coldStartMs],
  ['first token ms', (sample) => sample.firstTokenMs],
  ['prompt t/s', (sample) => sample.promptTokensPerSecond],
  ['generation t/s', (sample) => sample.generateTokensPerSecond],
]

const MEMORY = [
  ['resident, loaded', (sample) => mebibytes(sample.loaded.resident)],
  ['anonymous, loaded', (sample) => mebibytes(sample.loaded.anonymous)],
  ['resident, generated', (sample) => mebibytes(sample.generated.resident)],
  ['anonymous, generated', (sample) => mebibytes(sample.generated.anonymous)],
  ['private dirty, generated', (sample) => mebibytes(sample.generated.privateDirty)],
]

const POINT = ['model', 'threads', 'prompt']

export function speedTables(samples) {
  return [
    `Medians: ${OURS} / ${THEIRS} (median of the paired ratios). Times: below 1 is faster. t/s: above 1 is faster.`,
    comparison(samples, SPEEDS),
    'MiB above the bare Node process, the same way.',
    comparison(samples, MEMORY),
    ...refusals(samples),
  ]
}

function comparison(samples, metrics) {
  const head = [...POINT, ...metrics.map(([name]) => name)]
  const rows = points(samples).map((group) => [...label(group), ...metrics.map(([, metric]) => compare(group, metric))])
  return table(head, rows)
}

function compare(group, metric) {
  const [ours, theirs] = ENGINES.map((engine) => measured(group, engine).map(metric))
  const ratios = ours.flatMap((value, round) => (round in theirs ? [value / theirs[round]] : []))
  const ratio = ratios.length > 0 ? ` (${short(median(ratios))})` : ''
  return `${middle(ours)} / ${middle(theirs)}${ratio}`
}

export function busyTables(samples) {
  const metrics = SPEEDS.filter(([name]) => name.endsWith('t/s'))
  const head = [...POINT, 'engine', ...metrics.flatMap(([name]) => [`${name} quiet`, 'busy', 'kept'])]
  const rows = points(samples).flatMap((group) =>
    ENGINES.map((engine) => [...label(group), engine, ...metrics.flatMap(([, metric]) => kept(group, engine, metric))]),
  )
  return ['Kept: median over rounds of busy speed / quiet speed.', table(head, rows), ...refusals(samples)]
}

function kept(group, engine, metric) {
  const all = measured(group, engine)
  const quiet = all.filter(({ busy }) => busy === 0).map(metric)
  const busy = all.filter(({ busy }) => busy > 0).map(metric)
  if (quiet.length === 0) return ['refused', 'refused', 'refused']
  const share = median(busy.map((value, round) => value / quiet[round]))
  return [middle(quiet), middle(busy), `${Math.round(100 * share)} %`]
}

export function eventLoopTables(samples) {
  const head = [...POINT, 'engine', 'while', 'p50 ms', 'p99 ms', 'worst ms', 'anonymous MiB', 'resident MiB']
  const rows = points(samples).flatMap((group) => ENGINES.flatMap((engine) => eventLoopRows(group, engine)))
  return [
    'Time between two turns of a timer of 1 ms, so 1.0x is an idle loop. Medians over rounds; worst: of all rounds.',
    table(head, rows),
    ...refusals(samples),
  ]
}

function eventLoopRows(group, engine) {
  const all = measured(group, engine)
  if (all.length === 0) return []
  return Object.keys(all[0].phases).map((name) => {
    const phases = all.map(({ phases }) => phases[name])
    const at = (metric) => short(median(phases.map(metric)))
    return [
      ...label(group),
      engine,
      name,
      at(({ p50 }) => p50),
      at(({ p99 }) => p99),
      short(Math.max(...phases.map(({ max }) => max))),
      at(({ anonymous }) => mebibytes(anonymous)),
      at(({ resident }) => mebibytes(resident)),
    ]
  })
}

/** Samples by line of the table, in the order in which they were taken. */
function points(samples) {
  const groups = new Map()
  for (const sample of samples) {
    const key = label([sample]).join()
    groups.set(key, [...(groups.get(key) ?? []), sample])
  }
  return [...groups.values()]
}

const label = ([{ model, threads, promptLength }]) => [model, String(threads), String(promptLength)]

const measured = (group, engine) => group.filter((sample) => sample.engine === engine && !sample.refused)

const middle = (values) => (values.length > 0 ? short(median(values)) : 'refused')

function refusals(samples) {
  const lines = samples.flatMap(({ refused, engine, model }) =>
    refused ? [`- ${engine} refuses ${model}: ${refused}`] : [],
  )
  return lines.length > 0 ? [[...new Set(lines)].join('\n')] : []
}
