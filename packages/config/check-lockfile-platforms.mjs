// Fails when pnpm-lock.yaml lacks an optional dependency that an installed manifest lists: pnpm silently drops a
// platform package that the registry at hand did not have, and the lockfile then breaks on that platform.
// Compares the lockfile with what is installed; needs no network.
import { existsSync, lstatSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'

/** `name@version` → the optional dependencies that the lockfile resolved for it. */
export function lockedOptionals(lockfile) {
  const locked = new Map()
  let section, optionals, inOptionals
  for (const line of lockfile.split('\n')) {
    const [, indent, key] = /^( *)'?([^':]+(?:\([^']*\))?)'?:/.exec(line) ?? []
    if (key === undefined) continue
    if (indent.length === 0) section = key
    if (section !== 'snapshots') continue
    if (indent.length === 2) {
      const id = key.replace(/\(.*$/, '')
      optionals = locked.get(id) ?? new Set()
      locked.set(id, optionals)
    }
    if (indent.length === 4) inOptionals = key === 'optionalDependencies'
    if (indent.length === 6 && inOptionals) optionals.add(key)
  }
  return locked
}

/** What each manifest lists and the lockfile lacks, as sentences. Manifests that the lockfile does not know are old. */
export function missingOptionals(locked, manifests) {
  return manifests.flatMap(({ name, version, optionalDependencies = {} }) => {
    const present = locked.get(`${name}@${version}`)
    if (!present) return []
    return Object.keys(optionalDependencies)
      .filter((optional) => !present.has(optional))
      .map((optional) => `pnpm-lock.yaml lacks ${optional}, an optional dependency of ${name} ${version}`)
  })
}

function installedManifests(store) {
  return readdirSync(store)
    .map((entry) => path.join(store, entry, 'node_modules'))
    .filter((folder) => existsSync(folder))
    .flatMap((folder) => packagesIn(folder))
    .map((folder) => JSON.parse(readFileSync(path.join(folder, 'package.json'), 'utf8')))
}

/** The one real folder below; the others are links to dependencies. */
function packagesIn(folder) {
  return readdirSync(folder).flatMap((name) => {
    const child = path.join(folder, name)
    if (lstatSync(child).isSymbolicLink()) return []
    if (name.startsWith('@')) return packagesIn(child)
    return existsSync(path.join(child, 'package.json')) ? [child] : []
  })
}

if (process.argv[1] === import.meta.filename) {
  const root = path.join(import.meta.dirname, '..', '..')
  const locked = lockedOptionals(readFileSync(path.join(root, 'pnpm-lock.yaml'), 'utf8'))
  const manifests = installedManifests(path.join(root, 'node_modules', '.pnpm'))
  const known = manifests.filter(({ name, version }) => locked.has(`${name}@${version}`))
  const missing = missingOptionals(locked, manifests)
  for (const sentence of missing) console.error(sentence)
  if (known.length === 0) console.error('nothing is installed, so nothing could be compared: run pnpm install')
  else if (missing.length === 0) console.error(`the lockfile has every platform package of ${known.length} packages`)
  process.exitCode = missing.length > 0 || known.length === 0 ? 1 : 0
}
