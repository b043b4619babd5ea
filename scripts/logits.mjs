// Logits of models through the public functions for single layers. Reads a line of JSON for each question:
// {"model": path, "ids": [...], "cache": "f16" | "f32", "context": tokens, "output": path}; writes the F32 logits
// [ids, vocabulary] to `output`, and answers with a line: their count, or an error.
import { writeFile } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { computeLogits, embedTokens, forwardLayer, getModelInfo, KvCache, removeModel, storeModel } from '../binding.js'

async function answer({ model, ids, cache: type, context, output }) {
  const id = await storeModel(model)
  try {
    const { layerCount } = getModelInfo(id)
    const cache = new KvCache(id, { type, maxTokens: context })
    let hidden = await embedTokens(id, ids)
    for (let layer = 0; layer < layerCount; layer++) hidden = await forwardLayer(id, layer, hidden, 0, cache)
    const logits = await computeLogits(id, hidden)
    await writeFile(output, logits)
    return logits.length
  } finally {
    removeModel(id)
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const result = await answer(JSON.parse(line)).catch((error) => ({ error: `${error.code} ${error.message}` }))
  console.log(JSON.stringify(result))
}
