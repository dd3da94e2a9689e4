// Lints the current folder: oxlint with the repository's rules, then the layers. At the root also the formatting.
import { spawnSync } from 'node:child_process'
import path from 'node:path'

const root = path.join(import.meta.dirname, '..', '..')
const bin = path.join(root, 'node_modules', '.bin')
const atRoot = path.resolve(process.cwd()) === path.resolve(root)

let failed = false
run(path.join(bin, 'oxlint'), ['--config', path.join(root, '.oxlintrc.json')])
run(process.execPath, [path.join(import.meta.dirname, 'check-layers.mjs')])
if (atRoot) run(path.join(bin, 'biome'), ['format'])
process.exitCode = failed ? 1 : 0

function run(command, options) {
  const { status } = spawnSync(command, options, { stdio: 'inherit', shell: process.platform === 'win32' })
  if (status !== 0) failed = true
}
