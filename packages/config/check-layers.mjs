// Checks what oxlint cannot say simply: which package and which folder may import which, and how long a source may be.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'

export const MAX_LINES = 400

/** The folders of core/src: a file may import its own folder and the folders before it, never one after it. */
export const CORE_FOLDERS = [
  'errors',
  'observe',
  'bytes',
  'cipher',
  'context',
  'envelope',
  'keys',
  'cache',
  'keyring',
  'field',
  'blind-index',
  'tenant',
  'record',
]

/** Which of our packages the sources of a package may import; `type` only by `import type`. First match counts. */
const PACKAGE_RULES = [
  { packages: /^core$/, may: [] },
  { packages: /^kms-/, may: ['@fieldseal/core/kms'] },
  { packages: /^(typeorm|mongoose)$/, may: ['@fieldseal/core/adapter'], type: ['@fieldseal/core'] },
  {
    packages: /^(testkit|migrate)$/,
    may: ['@fieldseal/core', '@fieldseal/core/kms', '@fieldseal/core/adapter'],
  },
  { packages: /^cli$/, may: ['@fieldseal/core', '@fieldseal/core/adapter', '@fieldseal/migrate'] },
]

/**
 * The breaches of one source file, each as a sentence.
 *
 * @param file path below `packages/`, with `/`: `core/src/keys/cmk.ts`
 * @param doors files of the package that its manifest exports, as `src/index.ts`
 * @param dependencies names of the npm packages that its manifest lets users install
 */
export function breaches(file, text, { doors = [], dependencies = [] } = {}) {
  const [packageName, , ...rest] = file.split('/')
  const found = []
  const lines = text.split('\n').length - (text.endsWith('\n') ? 1 : 0)
  if (lines > MAX_LINES) found.push(`has ${lines} lines, at most ${MAX_LINES} are allowed`)
  const isDoor = doors.includes(`src/${rest.join('/')}`)
  for (const { specifier, typeOnly, reExport } of importsOf(text)) {
    if (reExport && !isDoor) found.push(`re-exports '${specifier}': only a package's doors do`)
    const breach = specifier.startsWith('.')
      ? relativeBreach(packageName, rest, specifier, doors)
      : packageBreach(packageName, specifier, typeOnly, dependencies)
    if (breach) found.push(breach)
  }
  return found
}

function relativeBreach(packageName, rest, specifier, doors) {
  const target = path.posix.join(path.posix.dirname(rest.join('/')), specifier)
  if (target.startsWith('..')) return `imports '${specifier}', outside its package's src`
  if (doors.includes(`src/${target}`)) return `imports '${specifier}', a door of its own package`
  if (packageName !== 'core' || rest.length === 1) return undefined
  const own = rest[0]
  const other = target.includes('/') ? target.split('/')[0] : undefined
  const [from, to] = [CORE_FOLDERS.indexOf(own), CORE_FOLDERS.indexOf(other)]
  if (from === -1) return `stands in '${own}', a folder without a place among the layers`
  if (to === -1 || to > from)
    return `imports '${specifier}': ${own}/ may import only ${CORE_FOLDERS.slice(0, from + 1).join(', ')}`
  return undefined
}

function packageBreach(packageName, specifier, typeOnly, dependencies) {
  if (specifier.startsWith('node:')) return undefined
  const rule = PACKAGE_RULES.find(({ packages }) => packages.test(packageName))
  const name = specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/')
  if (name.startsWith('@fieldseal/') && rule) {
    if (rule.may.includes(specifier)) return undefined
    if (rule.type?.includes(specifier))
      return typeOnly ? undefined : `imports '${specifier}': only its types are allowed`
    return `imports '${specifier}', which ${packageName} may not`
  }
  return dependencies.includes(name)
    ? undefined
    : `imports '${specifier}', which its manifest neither depends on nor has as a peer`
}

/** Every module specifier of a source; comments and strings that merely look like imports are left out. */
export function importsOf(text) {
  const code = text.replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '')
  const found = []
  for (const match of code.matchAll(/^\s*(import|export)\b\s*(type\b)?([^'"`;=]*?\bfrom\b\s*)?['"]([^'"]+)['"]/gm)) {
    const [, keyword, type, clause, specifier] = match
    if (keyword === 'export' && clause === undefined) continue
    found.push({ specifier, typeOnly: type !== undefined || namesAreTypes(clause), reExport: keyword === 'export' })
  }
  for (const match of code.matchAll(/\b(typeof\s+)?(?:import|require)\(\s*['"]([^'"]+)['"]\s*\)(\.\w)?/g)) {
    const [, typeOf, specifier] = match
    found.push({ specifier, typeOnly: typeOf !== undefined, reExport: false })
  }
  return found
}

function namesAreTypes(clause = '') {
  const names = /^\s*\{([^}]*)\}/.exec(clause)?.[1]
  if (names === undefined) return false
  return names.split(',').every((name) => name.trim() === '' || name.trim().startsWith('type '))
}

/** All breaches below a `packages` folder, each with its file. */
export function breachesBelow(packages) {
  const found = []
  for (const entry of readdirSync(packages, { withFileTypes: true })) {
    const folder = path.join(packages, entry.name)
    if (!existsSync(path.join(folder, 'src')) || !existsSync(path.join(folder, 'package.json'))) continue
    const manifest = JSON.parse(readFileSync(path.join(folder, 'package.json'), 'utf8'))
    const doors = Object.values(manifest.exports ?? {}).map((door) => door['@fieldseal/source']?.replace('./', ''))
    const dependencies = Object.keys({ ...manifest.dependencies, ...manifest.peerDependencies })
    for (const source of readdirSync(path.join(folder, 'src'), { recursive: true, withFileTypes: true })) {
      if (!source.isFile() || !source.name.endsWith('.ts')) continue
      const file = path.join(source.parentPath, source.name)
      const name = path.relative(packages, file).split(path.sep).join('/')
      const text = readFileSync(file, 'utf8')
      for (const breach of breaches(name, text, { doors, dependencies })) found.push(`packages/${name} ${breach}`)
    }
  }
  return found
}

if (process.argv[1] === import.meta.filename) {
  const found = breachesBelow(path.join(import.meta.dirname, '..'))
  for (const breach of found) console.error(breach)
  process.exitCode = found.length > 0 ? 1 : 0
}
