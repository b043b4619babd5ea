// Both engines behind one small interface: start (modules and native code), load (a model, ready for a context of
// `contextSize` tokens), generate (greedy, past end tokens; yields how many tokens each step brought, and may return the
// engine's own `firstTokenMs` and `generateMs`).
import { createRequire } from 'node:module'

export const ENGINES = ['realm-node', 'node-llama-cpp']

export function startEngine(name, options) {
  return name === 'realm-node' ? startRealm(options) : startNodeLlamaCpp(options)
}

async function startRealm({ threads }) {
  const { configure, generateStream, storeModel, systemInfo } = createRequire(import.meta.url)('..')
  configure({ threads })
  let id
  return {
    async load(path) {
      id = await storeModel(path)
    },
    async *generate(prompt, maxTokens) {
      const options = { maxTokens, temperature: 0, ignoreEos: true }
      let own
      for await (const { tokens, timings } of generateStream(id, Uint32Array.from(prompt), options)) {
        own = timings
        yield tokens.length
      }
      return own
    },
    about() {
      const { version, instructionSet } = systemInfo()
      return `realm-node ${version}, ${instructionSet}`
    },
  }
}

// Its defaults are its fastest settings on a CPU: mapped and repacked weights, batches of 512, flash attention wherever
// the model allows it. `evaluate` is its lowest documented level, below chat and text.
async function startNodeLlamaCpp({ threads, contextSize }) {
  const { getLlama } = await import('node-llama-cpp')
  const llama = await getLlama({
    gpu: false,
    build: 'never',
    skipDownload: true,
    maxThreads: threads,
    logLevel: 'error',
  })
  let context
  let sequence
  return {
    async load(path) {
      const model = await llama.loadModel({ modelPath: path })
      context = await model.createContext({ contextSize, threads, flashAttention: model.flashAttentionSupported })
      sequence = context.getSequence()
    },
    async *generate(prompt, maxTokens) {
      await sequence.clearHistory()
      let made = 0
      for await (const _ of sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
        yield 1
        made += 1
        if (made === maxTokens) return
      }
    },
    about() {
      const flash = context.flashAttention ? 'flash attention' : 'no flash attention'
      return `llama.cpp ${llama.llamaCppRelease.release} (${llama.buildType}), ${flash}`
    },
  }
}
