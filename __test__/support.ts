import { getEventListeners } from 'node:events'
import { setImmediate as turn } from 'node:timers/promises'
import type { ChatMessage, GenerateOptions, Generation, TokenChunk } from '../index.js'

/** The question of questions. */
export const question: ChatMessage[] = [{ role: 'user', content: 'What is the capital of France?' }]
export const answer = 'The capital of France is Paris.'

/** No randomness. */
export const greedy: GenerateOptions = { temperature: 0 }

/** A request that ends only when it is ended: it would write a million tokens. */
export const endless: GenerateOptions = { temperature: 0, ignoreEos: true, overflow: 'shift', maxTokens: 1_000_000 }

/** An id that no model has. */
export const noModel = '0'.repeat(32)

/** What a promise rejects with, be it an `Error` or not. */
export async function rejection(promise: Promise<unknown>): Promise<unknown> {
  let value: unknown
  try {
    value = await promise
  } catch (reason) {
    return reason
  }
  throw new Error(`expected a rejection, got ${JSON.stringify(value)}`)
}

/** All chunks of a stream. */
export async function collect(stream: AsyncIterable<TokenChunk>): Promise<TokenChunk[]> {
  const chunks: TokenChunk[] = []
  for await (const chunk of stream) chunks.push(chunk)
  return chunks
}

/** Chunks put together as `generate` does. */
export function join(chunks: TokenChunk[]): Pick<Generation, 'text' | 'tokens'> {
  return {
    text: chunks.map((chunk) => chunk.text).join(''),
    tokens: Uint32Array.from(chunks.flatMap((chunk) => [...chunk.tokens])),
  }
}

export function listeners(signal: AbortSignal): number {
  return getEventListeners(signal, 'abort').length
}

/** Collects garbage until `done`, and gives up after a number of turns of the event loop, not after a time. */
export async function collectGarbageUntil(done: () => boolean): Promise<boolean> {
  const { gc } = globalThis
  if (gc === undefined) throw new Error('the specs need node --expose-gc')
  for (let i = 0; i < 1000 && !done(); i++) {
    // What `done` looked at through a WeakRef stays alive until this turn is over.
    await turn()
    gc()
    await turn()
  }
  return done()
}

/** Index of the largest value. */
export function argmax(values: Float32Array): number {
  return values.reduce((best, value, i) => (value > values[best] ? i : best), 0)
}

/** The last `width` values. */
export function lastRow(values: Float32Array, width: number): Float32Array {
  return values.subarray(values.length - width)
}
