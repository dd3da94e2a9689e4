import { existsSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'

/**
 * The address from which the machine gets its Debian, as its own package sources name it.
 *
 * @param etc the folder `/etc`
 * @returns undefined on another system
 */
export function debianMirror(etc = '/etc'): string | undefined {
  const release = path.join(etc, 'os-release')
  const text = existsSync(release) ? readFileSync(release, 'utf8') : ''
  const codename = /^VERSION_CODENAME="?([a-z]+)"?$/m.exec(text)?.[1]
  if (!/^ID="?debian"?$/m.test(text) || codename === undefined) return undefined
  const parts = path.join(etc, 'apt', 'sources.list.d')
  const names = existsSync(parts) ? readdirSync(parts).toSorted((a, b) => a.localeCompare(b)) : []
  return [path.join(etc, 'apt', 'sources.list'), ...names.map((name) => path.join(parts, name))]
    .filter((file) => existsSync(file))
    .flatMap((file) => sourcesIn(file))
    .find(({ suites, components }) => suites.includes(codename) && components.includes('main'))?.uri
}

interface Source {
  readonly uri: string
  readonly suites: readonly string[]
  readonly components: readonly string[]
}

function sourcesIn(file: string): Source[] {
  const lines = readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => !line.startsWith('#'))
  if (file.endsWith('.list')) return lines.flatMap((line) => oneLine(line) ?? [])
  if (!file.endsWith('.sources')) return []
  const stanzas = lines.join('\n').split(/\n\s*\n/)
  return stanzas.flatMap((stanza) => deb822(stanza) ?? [])
}

/** `deb [signed-by=…] http://… bookworm main` */
function oneLine(line: string): Source | undefined {
  const [, uri, suite, components] = /^deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s+(.+)$/.exec(line) ?? []
  if (uri === undefined || suite === undefined || components === undefined) return undefined
  return { uri, suites: [suite], components: components.split(/\s+/) }
}

/** Fields `Types`, `URIs`, `Suites`, `Components`, each with one value or more. */
function deb822(stanza: string): Source | undefined {
  const values = (field: string): string[] =>
    new RegExp(`^${field}:(.*)$`, 'im').exec(stanza)?.[1]?.trim().split(/\s+/) ?? []
  const [uri] = values('URIs')
  if (uri === undefined || !values('Types').includes('deb') || values('Enabled')[0] === 'no') return undefined
  return { uri, suites: values('Suites'), components: values('Components') }
}
