// Numbers to tables, and tables to files that say where the numbers come from.
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const FOLDER = fileURLToPath(new URL('.', import.meta.url))

/** The q-th part (0 to 1) of the sorted values, interpolated between neighbours. */
export function quantile(values, q) {
  const sorted = values.toSorted((a, b) => a - b)
  const place = q * (sorted.length - 1)
  const below = Math.floor(place)
  const above = Math.ceil(place)
  return sorted[below] + (place - below) * (sorted[above] - sorted[below])
}

export const median = (values) => quantile(values, 0.5)

/** Three digits that count, and no exponent. */
export function short(value) {
  if (!Number.isFinite(value)) return 'none'
  const decimals = Math.abs(value) < 10 ? 2 : Math.abs(value) < 100 ? 1 : 0
  return value.toFixed(decimals)
}

export const mebibytes = (bytes) => bytes / 2 ** 20

/** A Markdown table with aligned columns: text to the left, numbers to the right. */
export function table(head, rows) {
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column].length)))
  const isNumber = head.map((_, column) => rows.length > 0 && rows.every((row) => /^[-\d]/.test(row[column])))
  const line = (cells) =>
    `| ${cells.map((cell, column) => (isNumber[column] ? cell.padStart(widths[column]) : cell.padEnd(widths[column]))).join(' | ')} |`
  const rule = `|${widths.map((width, column) => (isNumber[column] ? `${'-'.repeat(width + 1)}:` : '-'.repeat(width + 2))).join('|')}|`
  return [line(head), rule, ...rows.map(line)].join('\n')
}

/** What a reader needs to judge the numbers or get them again. */
export function circumstances() {
  const cpus = os.cpus()
  return {
    date: new Date().toISOString(),
    machine: {
      cpu: cpus[0].model.trim(),
      cores: cpus.length,
      memoryGiB: Math.round(os.totalmem() / 2 ** 30),
      system: `${os.type()} ${os.release()} ${os.arch()}`,
    },
    commit: commit(),
    command: ['node', `bench/${basename(process.argv[1])}`, ...process.argv.slice(2)].join(' '),
    versions: { node: process.version, 'node-llama-cpp': peerVersion() },
  }
}

function commit() {
  const git = (...args) => execFileSync('git', ['-C', FOLDER, ...args], { encoding: 'utf8' }).trim()
  const changed = git('status', '--porcelain', '--untracked-files=no') !== ''
  return git('rev-parse', '--short=12', 'HEAD') + (changed ? ' with changes' : '')
}

function peerVersion() {
  return JSON.parse(readFileSync(join(FOLDER, 'node_modules', 'node-llama-cpp', 'package.json'), 'utf8')).version
}

/** Prints the tables and keeps them, with all samples, as `results/<date>-<name>.{md,json}`. */
export function publish(name, title, about, engines, tables, samples) {
  const { machine, versions } = about
  const loads = samples.map(({ loadAverage }) => loadAverage)
  const facts = [
    `${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, ${machine.system}`,
    `Node ${versions.node}, node-llama-cpp ${versions['node-llama-cpp']}; ${engines.join('; ')}`,
    `commit ${about.commit}, ${about.date}: \`${about.command}\``,
    `load average before a measurement: ${short(Math.min(...loads))} to ${short(Math.max(...loads))}`,
  ]
  const text = [`# ${title}`, facts.map((fact) => `- ${fact}`).join('\n'), ...tables].join('\n\n')
  const results = join(FOLDER, 'results')
  mkdirSync(results, { recursive: true })
  const stem = `${about.date.slice(0, 10)}-${name}`
  writeFileSync(join(results, `${stem}.md`), `${text}\n`)
  writeFileSync(join(results, `${stem}.json`), `${JSON.stringify({ ...about, engines, samples }, null, 2)}\n`)
  console.log(`${text}\n\nkept as bench/results/${stem}.md and .json`)
}
