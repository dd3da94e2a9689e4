import { existsSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { configError } from './config-error.ts'
import type { FieldsealConfig } from './define-config.ts'
import { UsageError } from './exit-codes.ts'

const NAMES = ['ts', 'mts', 'mjs', 'js', 'cjs'].map((extension) => `fieldseal.config.${extension}`)

const OPTIONS: ReadonlySet<string> = new Set([
  'fieldseal',
  'sources',
  'policy',
  'signingKey',
  'open',
  'close',
] satisfies (keyof FieldsealConfig)[])

export interface ConfigPlace {
  readonly cwd: string
  readonly config?: string | undefined
  /** Modules that are imported first: a loader for decorators, `dotenv/config`. */
  readonly imports: readonly string[]
}

/** Imports the configuration and calls it where it is a function. @throws UsageError that says what to do */
export async function loadConfig({ cwd, config, imports }: ConfigPlace): Promise<FieldsealConfig> {
  for (const specifier of imports) await importLoader(specifier, cwd)
  const file = config === undefined ? findConfig(cwd) : path.resolve(cwd, config)
  if (statSync(file, { throwIfNoEntry: false })?.isFile() !== true)
    throw new UsageError(`no configuration at ${file}: name a file with --config`)
  const value = await importConfig(file).catch((error: unknown) => {
    throw configError(error, file)
  })
  if (typeof value === 'object' && value !== null && 'fieldseal' in value && 'sources' in value) {
    for (const [name, given] of Object.entries(value)) {
      if (!OPTIONS.has(name))
        throw new UsageError(`${path.basename(file)}: unknown option ${name}; known are ${[...OPTIONS].join(', ')}`)
      if ((name === 'open' || name === 'close') && given !== undefined && typeof given !== 'function')
        throw new UsageError(`${path.basename(file)}: ${name} must be a function`)
    }
    return value as FieldsealConfig // createMigrator checks the rest
  }
  throw new UsageError(`${path.basename(file)} must export default defineConfig({ fieldseal, sources })`)
}

function findConfig(cwd: string): string {
  const found = NAMES.map((name) => path.join(cwd, name)).find((file) => existsSync(file))
  if (found !== undefined) return found
  throw new UsageError(`no fieldseal.config.ts in ${cwd}: write one, or name it with --config`)
}

async function importLoader(specifier: string, cwd: string): Promise<void> {
  try {
    const require = createRequire(path.join(cwd, 'fieldseal.config.js'))
    const file = specifier.startsWith('.') ? path.resolve(cwd, specifier) : require.resolve(specifier)
    await import(pathToFileURL(file).href)
  } catch (error) {
    throw new UsageError(`--import ${specifier}: ${messageOf(error)}`)
  }
}

async function importConfig(file: string): Promise<unknown> {
  const module = (await import(pathToFileURL(file).href)) as { readonly default?: unknown }
  const exported = module.default
  // A CommonJS module that was compiled from `export default`.
  const nested = typeof exported === 'object' && exported !== null && 'default' in exported
  const config = nested ? exported.default : exported
  return typeof config === 'function' ? (config as () => unknown)() : config
}

function messageOf(error: unknown): string {
  return error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error)
}
