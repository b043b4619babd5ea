// The models that are measured: real shapes and block formats, random weights. Speed does not depend on what a model
// knows, so nothing has to be downloaded.
import { spawnSync } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gunzipSync } from 'node:zlib'

const FOLDER = fileURLToPath(new URL('models/', import.meta.url))
const SHARED = fileURLToPath(new URL('../../shared/', import.meta.url))

// TinyLlama was trained on 2048 tokens. A longer context lets it write after a prompt of 2048 or 4096.
const SYNTHETIC = {
  'tinyllama-1.1b-q4_k_m': {
    vocabulary: 'ggml-vocab-llama-spm.gguf',
    options: ['--arch', 'llama', '--preset', 'tinyllama-1.1b', '--ftype', 'q4_k_m', '--set', 'n_ctx=8192'],
  },
  'qwen3-0.6b-q8_0': {
    vocabulary: 'ggml-vocab-qwen2.gguf.gz',
    options: ['--arch', 'qwen3', '--preset', 'qwen3-0.6b', '--ftype', 'q8_0'],
  },
  'llama-3.2-1b-q4_0': {
    vocabulary: 'ggml-vocab-llama-bpe.gguf.gz',
    options: ['--arch', 'llama', '--preset', 'llama-3.2-1b', '--ftype', 'q4_0'],
  },
}

export const MODEL_NAMES = Object.keys(SYNTHETIC)

/** Where the model lies: one of `MODEL_NAMES` (or the beginning of one), made if it is not there yet, or any file. */
export function findModel(nameOrFile) {
  const name = MODEL_NAMES.find((known) => known.startsWith(nameOrFile))
  if (name) return { name, path: makeModel(name) }
  if (existsSync(nameOrFile)) return { name: basename(nameOrFile, '.gguf'), path: resolve(nameOrFile) }
  throw new Error(`--model: expected a file or one of ${MODEL_NAMES.join(', ')}, found '${nameOrFile}'`)
}

function makeModel(name) {
  const path = join(FOLDER, `${name}.gguf`)
  if (existsSync(path)) return path
  console.error(`making ${name}`)
  mkdirSync(FOLDER, { recursive: true })
  const { vocabulary, options } = SYNTHETIC[name]
  const unfinished = `${path}.part`
  const tool = join(SHARED, 'tools', 'synth_gguf.py')
  const made = spawnSync('python3', [tool, ...options, '--vocab', findVocabulary(vocabulary), unfinished], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  if (made.error || made.status !== 0) {
    throw new Error(`${tool} could not make ${name} (needs python3 with numpy): ${made.error ?? `exit ${made.status}`}`)
  }
  writeBack(unfinished)
  renameSync(unfinished, path)
  return path
}

/** Pages that wait to be written count as private dirty memory of whoever maps them, and writing them takes time. */
function writeBack(path) {
  const file = openSync(path, 'r')
  fsyncSync(file)
  closeSync(file)
}

function findVocabulary(file) {
  const path = join(SHARED, 'fixtures', 'tokenizers', file)
  if (!file.endsWith('.gz')) return path
  const unpacked = join(FOLDER, basename(file, '.gz'))
  if (!existsSync(unpacked)) writeFileSync(unpacked, gunzipSync(readFileSync(path)))
  return unpacked
}

// Ordinary pieces of text in every vocabulary above: past control tokens and bytes, below the smallest vocabulary.
const FIRST_TOKEN = 1000
const LAST_TOKEN = 30000

/** A prompt that nobody has seen, so that no cache can help. */
export function randomPrompt(length) {
  return Array.from({ length }, () => randomInt(FIRST_TOKEN, LAST_TOKEN))
}
