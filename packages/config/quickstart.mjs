// `npm run quickstart`: installs and builds the demo and what it needs, nothing else, and runs it. Only the demo
// writes to stdout; options reach it: `npm run quickstart -- --json`. Other stages than TypeORM with a key file are
// another package, so that the plain demo does not install what they need.
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import path from 'node:path'
import { root, run } from './commands.mjs'

const EXTENDED = ['--mongoose', '--kms']
const name = process.argv.slice(2).some((option) => EXTENDED.includes(option.split('=')[0]))
  ? 'quickstart-extended'
  : 'quickstart'
const folder = path.join(root, 'packages', name)
process.exitCode = (await install()) && (await build()) ? demo() : 1

function install() {
  if (!existsSync(path.join(folder, 'node_modules'))) console.error('installing dependencies …')
  return run('pnpm', ['--filter-prod', `@fieldseal/${name}...`, 'install', '--frozen-lockfile'], { quiet: true })
}

function build() {
  const script = path.join(import.meta.dirname, 'build.mjs')
  return run(process.execPath, [script, '--with-dependencies'], { cwd: folder })
}

function demo() {
  const main = path.join(folder, 'dist', 'esm', 'main.js')
  return spawnSync(process.execPath, [main, ...process.argv.slice(2)], { stdio: 'inherit' }).status ?? 1
}
