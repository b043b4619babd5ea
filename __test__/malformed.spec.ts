// Damaged files are refused with an ordinary error, valid oddities load, and nothing ends the process.
import { readFileSync } from 'node:fs'
import test from 'ava'
import {
  applyChatTemplate,
  generate,
  getMetadata,
  getModelInfo,
  listModels,
  listTensors,
  removeModel,
  storeModel,
  tokenize,
} from '../index.js'
import { fixture, fixtureJson } from './helpers.js'
import { greedy, question } from './support.js'

interface Malformed {
  file: string
  what: string
  expect: 'reject' | 'accept' | 'either'
}

const REFUSALS = ['ERR_REALM_BAD_GGUF', 'ERR_REALM_UNSUPPORTED']

const { files } = fixtureJson<{ files: Malformed[] }>('malformed', 'manifest.json')

/** Everything that reads the file; what it throws has a code. */
async function useModel(id: string): Promise<void> {
  getModelInfo(id)
  getMetadata(id, { arrays: true })
  listTensors(id)
  await coded(tokenize(id, 'Hello, world! 世界'))
  await coded(applyChatTemplate(id, question))
  await coded(generate(id, 'Hello', { ...greedy, maxTokens: 4 }))
  await coded(generate(id, [1], { temperature: 1, seed: 1, maxTokens: 4, ignoreEos: true }))
}

async function coded(promise: Promise<unknown>): Promise<void> {
  try {
    await promise
  } catch (error) {
    const { code } = error as { code?: string }
    if (!code?.startsWith('ERR_REALM_') || code === 'ERR_REALM_INTERNAL') throw error
  }
}

for (const { file, what, expect } of files) {
  test.serial(`${expect}: ${file} (${what})`, async (t) => {
    const path = fixture('malformed', file)
    for (const source of [path, readFileSync(path)]) {
      let id: string
      try {
        id = await storeModel(source)
      } catch (error) {
        const { code, message } = error as { code: string; message: string }
        t.not(expect, 'accept', message)
        t.true(REFUSALS.includes(code), `${code}: ${message}`)
        t.deepEqual(listModels(), [])
        continue
      }
      t.not(expect, 'reject')
      if (expect === 'accept') {
        const { tokens } = await generate(id, [1], { ...greedy, maxTokens: 4, ignoreEos: true })
        t.is(tokens.length, 4)
        t.true(tokens.every((token) => token < getModelInfo(id).vocabularySize))
      }
      await useModel(id)
      t.true(removeModel(id))
    }
  })
}
