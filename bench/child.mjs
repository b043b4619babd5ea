// A measurement (measure.mjs) in a fresh process.
import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'

export function inFreshProcess(job) {
  return new Promise((resolve, reject) => {
    const child = fork(fileURLToPath(new URL('measure.mjs', import.meta.url)), { execArgv: ['--expose-gc'] })
    let answer
    child.once('message', (message) => {
      answer = message
    })
    child.once('error', reject)
    child.once('exit', (code, signal) => {
      if (answer?.error) reject(new Error(`${job.engine} failed: ${answer.error}`))
      else if (answer) resolve(answer)
      else reject(new Error(`${job.engine} ended without an answer (${signal ?? `exit ${code}`})`))
    })
    child.send(job)
  })
}
