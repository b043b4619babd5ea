'use strict'

// The main entry: the generated binding, plus what Rust cannot know (where this package lies) or what costs it more (events
// that mostly nobody listens to).
const { channel } = require('node:diagnostics_channel')
const { join } = require('node:path')
const binding = require('./binding.js')

const embeddedModel = join(__dirname, 'models', 'realm-tiny', 'realm-tiny-q8_0.gguf')

const started = channel('realm-node.request.start')
const ended = channel('realm-node.request.end')
let requests = 0

/** Publishes the beginning of a request; what it returns publishes the end, once. `undefined` when nobody listens. */
function observe(method, modelId) {
  if (!started.hasSubscribers && !ended.hasSubscribers) return undefined
  const event = { request: ++requests, method, modelId }
  started.publish({ ...event })
  let open = true
  return (end) => {
    if (open) ended.publish({ ...event, ...end })
    open = false
  }
}

const facts = ({ finishReason, usage, timings, seed }) => ({ finishReason, usage, timings, seed })

function generate(modelId, prompt, options) {
  const end = observe('generate', modelId)
  const answer = binding.generate(modelId, prompt, options)
  if (end === undefined) return answer
  return answer.then(
    (generation) => {
      end(facts(generation))
      return generation
    },
    (error) => {
      end({ error })
      throw error
    },
  )
}

function generateStream(modelId, prompt, options) {
  const stream = binding.generateStream(modelId, prompt, options)
  const end = observe('generateStream', modelId)
  return end === undefined ? stream : new ObservedStream(stream, end)
}

/** A stream whose end is published. */
class ObservedStream {
  #stream
  #end

  constructor(stream, end) {
    this.#stream = stream
    this.#end = end
  }

  async next() {
    try {
      const step = await this.#stream.next()
      if (step.done) this.#end({ cancelled: true })
      else if (step.value.finishReason !== undefined) this.#end(facts(step.value))
      return step
    } catch (error) {
      this.#end({ error })
      throw error
    }
  }

  return() {
    this.#end({ cancelled: true })
    return this.#stream.return()
  }

  throw(error) {
    this.#end({ error })
    return this.#stream.throw(error)
  }

  [Symbol.asyncIterator]() {
    return this
  }

  [Symbol.asyncDispose]() {
    this.#end({ cancelled: true })
    return this.#stream[Symbol.asyncDispose]()
  }
}

// In exactly this form it lets `import { generate } from 'realm-node'` find the names.
module.exports = { ...require('./binding.js'), embeddedModel, generate, generateStream }
