// Small models from the descriptions that the Rust tests compare with llama.cpp (src/model/testdata/families.json).
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './helpers.js'

type Value = boolean | number | string | Value[]
type Tensor = [name: string, shape: number[], mean: number, spread: number]
interface Family {
  name: string
  architecture: string
  layers: number
  keys: [string, Value][]
  tensors: Tensor[]
}

const families: Family[] = JSON.parse(readFileSync(join(root, 'src/model/testdata/families.json'), 'utf8')).models

/** Any numbers that are the same every time. */
function numbers(seed: number, count: number, mean: number, spread: number): Float32Array {
  let state = seed + 1
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return mean + spread * (state / 2 ** 31 - 1)
  })
}

function u32(...values: number[]): Buffer {
  return Buffer.from(Uint32Array.from(values).buffer)
}

function u64(...values: number[]): Buffer {
  return Buffer.from(BigUint64Array.from(values, BigInt).buffer)
}

function text(value: string): Buffer {
  return Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)])
}

/** Type and content of a metadata value. */
function encode(value: Value): [type: number, bytes: Buffer] {
  if (typeof value === 'boolean') return [7, Buffer.from([Number(value)])]
  if (typeof value === 'string') return [8, text(value)]
  if (Array.isArray(value)) {
    const elements = value.map(encode)
    return [9, Buffer.concat([u32(elements[0][0]), u64(value.length), ...elements.map(([, bytes]) => bytes)])]
  }
  return Number.isInteger(value) ? [4, u32(value)] : [6, Buffer.from(Float32Array.of(value).buffer)]
}

/** The file of the model with this name: 37 tokens without a vocabulary, a context of 256. */
export function family(name: string): Buffer {
  const found = families.find((family) => family.name === name)
  if (!found) throw new Error(`no model is described as ${name}`)
  const pairs: [string, Value][] = [['general.architecture', found.architecture], ...found.keys]
  const tensors = found.tensors.flatMap(([name, ...rest]): Tensor[] =>
    name.includes('*')
      ? Array.from({ length: found.layers }, (_, layer) => [name.replace('*', `${layer}`), ...rest])
      : [[name, ...rest]],
  )
  const head: Buffer[] = [Buffer.from('GGUF'), u32(3), u64(tensors.length, pairs.length)]
  for (const [key, value] of pairs) {
    const [type, bytes] = encode(value)
    head.push(text(key), u32(type), bytes)
  }
  const data: Buffer[] = []
  let offset = 0
  for (const [i, [name, shape, mean, spread]] of tensors.entries()) {
    const count = shape.reduce((product, size) => product * size)
    head.push(text(name), u32(shape.length), u64(...shape.toReversed()), u32(0), u64(offset))
    const bytes = Buffer.alloc(Math.ceil((4 * count) / 32) * 32)
    bytes.set(Buffer.from(numbers(i, count, mean, spread).buffer))
    data.push(bytes)
    offset += bytes.length
  }
  const start = Buffer.concat(head)
  return Buffer.concat([start, Buffer.alloc((32 - (start.length % 32)) % 32), ...data])
}
