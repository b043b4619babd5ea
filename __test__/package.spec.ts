import { exec, execFile } from 'node:child_process'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { isAbsolute, join } from 'node:path'
import { promisify } from 'node:util'
import test from 'ava'
import { embeddedModel, systemInfo } from '../index.js'
import { root } from './helpers.js'

const run = promisify(execFile)
const runInShell = promisify(exec)
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))

/** What a program may rely on; further names are the classes of values that these return. */
const API = [
  'KvCache',
  'applyChatTemplate',
  'computeLogits',
  'configure',
  'detokenize',
  'embedTokens',
  'embeddedModel',
  'forwardLayer',
  'generate',
  'generateStream',
  'getMetadata',
  'getModelInfo',
  'getTensor',
  'getTensorData',
  'inspect',
  'listModels',
  'listTensors',
  'removeModel',
  'storeModel',
  'systemInfo',
  'tokenize',
]

test('require, import and import by the package name give the same functions', async (t) => {
  // In a plain process, because the loader of the specs has its own ways with CommonJS.
  const program = `
    import { createRequire } from 'node:module'
    import * as byPath from './index.js'
    import * as byName from '${manifest.name}'
    const required = createRequire(import.meta.url)('./index.js')
    const names = Object.keys(required)
    const different = names.filter((name) => byPath[name] !== required[name] || byName[name] !== required[name])
    console.log(JSON.stringify({ names, different }))`
  const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', program], { cwd: root })
  const { names, different } = JSON.parse(stdout)
  t.deepEqual(different, [])
  const missing = API.filter((name) => !names.includes(name))
  t.deepEqual(missing, [])
})

test('the embedded model is where the package says', (t) => {
  t.true(isAbsolute(embeddedModel))
  const bytes = readFileSync(embeddedModel)
  t.is(bytes.subarray(0, 4).toString(), 'GGUF')
})

test('the packed package is complete, has nothing else, and is small', async (t) => {
  const { stdout } = await runInShell('npm pack --dry-run --json --ignore-scripts', { cwd: root })
  const [pack] = JSON.parse(stdout)
  const files = pack.files.map((file: { path: string }) => file.path).sort()
  t.deepEqual(files, [
    'CHANGELOG.md',
    'LICENSE',
    'README.md',
    'bin/realm-node.mjs',
    'binding.js',
    'examples/chat.mjs',
    'index.d.ts',
    'index.js',
    'models/realm-tiny/README.md',
    'models/realm-tiny/realm-tiny-q8_0.gguf',
    'package.json',
  ])
  const model = statSync(embeddedModel).size
  t.true(pack.size < model + 1_000_000, `${pack.size} bytes packed`)
})

test('installing the package runs nothing', (t) => {
  for (const script of ['preinstall', 'install', 'postinstall']) t.is(manifest.scripts[script], undefined, script)
  t.is(manifest.dependencies, undefined)
})

test('each platform package fits the main one', (t) => {
  const platforms = readdirSync(join(root, 'npm'))
  t.is(platforms.length, manifest.napi.targets.length)
  for (const platform of platforms) {
    const own = JSON.parse(readFileSync(join(root, 'npm', platform, 'package.json'), 'utf8'))
    t.is(own.name, `${manifest.napi.packageName}-${platform}`)
    t.is(own.version, manifest.version)
    t.is(own.main, `${manifest.napi.binaryName}.${platform}.node`)
    t.deepEqual(own.files, [own.main])
    t.is(own.scripts, undefined)
    t.is(own.engines.node, manifest.engines.node)
  }
})

test('the crate has the version of the package', (t) => {
  const cargo = readFileSync(join(root, 'Cargo.toml'), 'utf8')
  t.is(/^version = "(.+)"$/m.exec(cargo)?.[1], manifest.version)
  t.is(systemInfo().version, manifest.version)
})
