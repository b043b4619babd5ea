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

/** Shapes of other families, for their speed beside that of the three above. */
const FAMILIES = {
  // Gemma 3 1B.
  'gemma3-1b-q4_k_m': {
    vocabulary: 'ggml-vocab-llama-spm.gguf',
    options: [
      ...['--arch', 'gemma3', '--ftype', 'q4_k_m'],
      ...set({ n_embd: 1152, n_layer: 26, n_head: 4, n_head_kv: 1, head_dim: 256, n_ff: 6912, n_vocab: 262144 }),
      ...set({ n_ctx: 32768, eps: 1e-6, rope_base: 1e6, rope_base_swa: 1e4, swa: 512, swa_pattern: 6, tie: true }),
    ],
  },
  // As embedding models are often kept.
  'qwen3-0.6b-f16': {
    vocabulary: 'ggml-vocab-qwen2.gguf.gz',
    options: ['--arch', 'qwen3', '--preset', 'qwen3-0.6b', '--ftype', 'f16'],
  },
  // A billion parameters, of which a token meets a third.
  'moe-1b-q4_k_m': {
    vocabulary: 'ggml-vocab-qwen2.gguf.gz',
    options: [
      ...['--arch', 'qwen3moe', '--ftype', 'q4_k_m'],
      ...set({ n_embd: 1024, n_layer: 16, n_head: 16, n_head_kv: 4, head_dim: 64, n_ff: 3072, n_vocab: 151936 }),
      ...set({ n_ctx: 32768, eps: 1e-6, rope_base: 1e6, n_expert: 32, n_expert_used: 4, n_ff_exp: 512, tie: true }),
    ],
  },
  // Four layers as gpt-oss-20b has them.
  'gpt-oss-4-layers-mxfp4': {
    vocabulary: 'ggml-vocab-llama-bpe.gguf.gz',
    options: [
      ...['--arch', 'gpt-oss', '--ftype', 'mxfp4'],
      ...set({ n_embd: 2880, n_layer: 4, n_head: 64, n_head_kv: 8, head_dim: 64, n_ff: 2880, n_vocab: 128256 }),
      ...set({ n_ctx: 32768, rope_base: 150000, n_expert: 32, n_expert_used: 4, n_ff_exp: 2880 }),
      ...set({ swa: 128, swa_pattern: 2, bias: true }),
    ],
  },
}

/** Llamas in block formats that the three above do not have: what products in these formats cost. */
const REFERENCES = {
  'llama-8-layers-q8_0': {
    vocabulary: 'ggml-vocab-llama-spm.gguf',
    options: ['--arch', 'llama', '--preset', 'tinyllama-1.1b', '--ftype', 'q8_0', ...set({ n_layer: 8 })],
  },
  // Only experts are MXFP4 in files. Here every token meets both.
  'llama-6-layers-mxfp4': {
    vocabulary: 'ggml-vocab-llama-spm.gguf',
    options: [
      ...['--arch', 'llama', '--preset', 'tinyllama-1.1b', '--ftype', 'mxfp4'],
      ...set({ n_layer: 6, n_expert: 2, n_expert_used: 2, n_ff_exp: 5632 }),
    ],
  },
}

function set(parameters) {
  return Object.entries(parameters).flatMap(([name, value]) => ['--set', `${name}=${value}`])
}

/** What is measured unless said otherwise. */
export const MODEL_NAMES = Object.keys(SYNTHETIC)
export const FAMILY_NAMES = Object.keys(FAMILIES)
export const REFERENCE_NAMES = Object.keys(REFERENCES)

/** Where the model lies: one of those above (or the beginning of its name), made if it is not there yet, or any file. */
export function findModel(nameOrFile) {
  const names = [...MODEL_NAMES, ...FAMILY_NAMES, ...REFERENCE_NAMES]
  const name = names.find((known) => known.startsWith(nameOrFile))
  if (name) return { name, path: makeModel(name) }
  if (existsSync(nameOrFile)) return { name: basename(nameOrFile, '.gguf'), path: resolve(nameOrFile) }
  throw new Error(`--model: expected a file or one of ${names.join(', ')}, found '${nameOrFile}'`)
}

function makeModel(name) {
  const path = join(FOLDER, `${name}.gguf`)
  if (existsSync(path)) return path
  console.error(`making ${name}`)
  mkdirSync(FOLDER, { recursive: true })
  const { vocabulary, options } = { ...SYNTHETIC, ...FAMILIES, ...REFERENCES }[name]
  const unfinished = `${path}.part`
  const tool = join(SHARED, 'tools', 'synth_gguf.py')
  const made = spawnSync('python3', [tool, ...options, '--vocab', findVocabulary(vocabulary), unfinished], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  if (made.error || made.status !== 0) {
    throw new Error(`${tool} could not make ${name} (needs python3 with gguf): ${made.error ?? `exit ${made.status}`}`)
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
