// Runs before a build from source, because the build's own words for a missing compiler are hard to read.
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

if (spawnSync('cargo', ['--version']).error) {
  const cargoToml = readFileSync(new URL('../Cargo.toml', import.meta.url), 'utf8')
  const version = /^rust-version = "(.+)"$/m.exec(cargoToml)[1]
  console.error(
    `error: building realm-node needs Rust ${version} or later, and there is no cargo on the PATH (rustup.rs)`,
  )
  process.exitCode = 1
}
