// Builds the package in the current folder: tsc to dist/esm and, for published packages, again to dist/cjs.
// `--with-dependencies` builds the workspace packages it needs first. Nothing is rebuilt while its inputs are unchanged.
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'

const here = import.meta.dirname
// What differs in the CommonJS pass; the rest is tsconfig.build.json.
const COMMONJS = '--module commonjs --moduleResolution bundler --verbatimModuleSyntax false --outDir dist/cjs'.split(
  ' ',
)

const built = new Map()

/** Resolves to a digest of everything the package's output depends on. */
function build(folder, withDependencies) {
  let result = built.get(folder)
  if (!result) built.set(folder, (result = buildOnce(folder, withDependencies)))
  return result
}

async function buildOnce(folder, withDependencies) {
  const manifest = readManifest(folder)
  const digest = createHash('sha256')
  for (const dependency of workspaceDependencies(folder, manifest)) {
    if (withDependencies) digest.update(await build(dependency, true))
    else for (const file of inputs(dependency)) digest.update(readFileSync(file))
  }
  for (const file of inputs(folder)) digest.update(`${path.relative(folder, file)}\n`).update(readFileSync(file))
  const stamp = digest.digest('hex')
  const stampFile = path.join(folder, 'node_modules', '.cache', 'build-stamp')
  if (existsSync(path.join(folder, 'dist')) && existsSync(stampFile) && readFileSync(stampFile, 'utf8') === stamp)
    return stamp

  rmSync(path.join(folder, 'dist'), { recursive: true, force: true })
  const passes = [run(folder, [])]
  if (!manifest.private) passes.push(run(folder, COMMONJS))
  await Promise.all(passes)
  rewriteDeclarations(path.join(folder, 'dist'))
  if (!manifest.private) writeFileSync(path.join(folder, 'dist', 'cjs', 'package.json'), '{ "type": "commonjs" }\n')
  mkdirSync(path.dirname(stampFile), { recursive: true })
  writeFileSync(stampFile, stamp)
  console.error(`built ${manifest.name}`)
  return stamp
}

function readManifest(folder) {
  return JSON.parse(readFileSync(path.join(folder, 'package.json'), 'utf8'))
}

/** Folders of the workspace packages that the sources may import: not those needed by tests only. */
function workspaceDependencies(folder, manifest) {
  const names = Object.keys({ ...manifest.dependencies, ...manifest.peerDependencies })
  return names
    .filter((name) => name.startsWith('@fieldseal/'))
    .sort()
    .map((name) => path.join(here, '..', name.slice('@fieldseal/'.length)))
    .filter((dependency) => existsSync(path.join(dependency, 'src')))
}

function inputs(folder) {
  const sources = readdirSync(path.join(folder, 'src'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath, entry.name))
    .sort()
  const settings = ['package.json', 'tsconfig.json', 'tsconfig.build.json'].map((name) => path.join(folder, name))
  const shared = ['build.mjs', 'tsconfig.base.json', 'tsconfig.build.json'].map((name) => path.join(here, name))
  return [...sources, ...settings, ...shared]
}

function run(folder, options) {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [tscOf(folder), '-p', 'tsconfig.build.json', ...options], {
      cwd: folder,
      stdio: ['ignore', process.stderr, process.stderr],
    })
    child.once('error', reject)
    child.once('exit', (code) => (code === 0 ? resolve() : reject(new Error(`tsc failed in ${folder}`))))
  })
}

function tscOf(folder) {
  const manifest = createRequire(path.join(folder, 'package.json')).resolve('typescript/package.json')
  return path.join(path.dirname(manifest), 'bin', 'tsc')
}

/** tsc leaves `./x.ts` in declarations, where only `./x.js` means the same to every resolver. */
function rewriteDeclarations(dist) {
  for (const entry of readdirSync(dist, { recursive: true, withFileTypes: true })) {
    if (!entry.name.endsWith('.d.ts')) continue
    const file = path.join(entry.parentPath, entry.name)
    const text = readFileSync(file, 'utf8')
    const rewritten = text.replace(/((?:\bfrom|\bimport)\s*\(?\s*['"]\.{1,2}\/[^'"]*)\.ts(['"])/g, '$1.js$2')
    if (rewritten !== text) writeFileSync(file, rewritten)
  }
}

try {
  await build(process.cwd(), process.argv.includes('--with-dependencies'))
} catch (error) {
  console.error(error.message)
  process.exitCode = 1
}
