// `npm run bench`: installs what the lockfile says, builds the benchmarks and what they need, and runs them.
import { spawnSync } from 'node:child_process'
import path from 'node:path'
import { root, run } from './commands.mjs'

const folder = path.join(root, 'packages', 'bench')
const build = path.join(import.meta.dirname, 'build.mjs')
const ready =
  (await run('pnpm', ['install', '--frozen-lockfile'], { quiet: true })) &&
  (await run(process.execPath, [build, '--with-dependencies'], { cwd: folder }))
process.exitCode = ready ? bench() : 1

function bench() {
  const main = path.join(folder, 'dist', 'esm', 'main.js')
  return spawnSync(process.execPath, ['--expose-gc', main, ...process.argv.slice(2)], { stdio: 'inherit' }).status ?? 1
}
