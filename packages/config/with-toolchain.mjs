// Runs a command in the repository with the pinned pnpm and the repository's tools on PATH, and with Node 24
// where the Node at hand is too old.
// Needs only some Node and npm: both tools come from the npm registry by npx and are cached there.
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import path from 'node:path'

const root = path.join(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname), '..', '..')
const { packageManager, engines } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'))
const command = process.argv.slice(2)

const env = { ...process.env, TURBO_TELEMETRY_DISABLED: '1' }
const pathName = Object.keys(env).find((name) => name.toUpperCase() === 'PATH') ?? 'PATH' // `Path` on Windows
env[pathName] = [path.join(root, 'node_modules', '.bin'), env[pathName]].join(path.delimiter)

const packages = []
if (!isAtLeast(process.versions.node, engines.node.replace('>=', ''))) packages.push('node@24')
if (!pnpmIsAtHand()) packages.push(packageManager)

const { status, signal, error } = packages.length === 0 ? run(command) : runWithPackages()
if (error) console.error(`could not start ${command.join(' ')}: ${error.message}`)
process.exit(signal ? 1 : (status ?? 1))

function isAtLeast(version, floor) {
  const [a, b] = [version, floor].map((text) => text.split('.').map(Number))
  for (let i = 0; i < b.length; i++) if (a[i] !== b[i]) return a[i] > b[i]
  return true
}

/** True when the pinned pnpm itself started us. */
function pnpmIsAtHand() {
  return (process.env.npm_config_user_agent ?? '').startsWith(`${packageManager.replace('@', '/')} `)
}

function runWithPackages() {
  const exec = [
    'exec',
    '--yes',
    '--prefer-offline',
    ...packages.flatMap((name) => ['--package', name]),
    '--',
    ...command,
  ]
  // npm's own entry file where npm started us: no shell, so nothing needs quoting on Windows.
  const npm = process.env.npm_execpath
  return npm && /npm-cli\.[cm]?js$/.test(npm) ? run(['node', npm, ...exec]) : run(['npm', ...exec])
}

function run([name, ...args]) {
  const file = name === 'node' ? process.execPath : name
  return spawnSync(file, args, {
    cwd: root,
    stdio: 'inherit',
    env,
    shell: process.platform === 'win32' && file !== process.execPath, // npm and pnpm are .cmd files there
  })
}
