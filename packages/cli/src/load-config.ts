import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import type { FieldsealConfig } from './define-config.ts'
import { UsageError } from './exit-codes.ts'

const NAMES = ['ts', 'mts', 'mjs', 'js', 'cjs'].map((extension) => `fieldseal.config.${extension}`)

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
  if (!existsSync(file)) throw new UsageError(`no configuration at ${file}`)
  const loaded = await importConfig(file)
  const value: unknown = typeof loaded === 'function' ? await (loaded as () => unknown)() : await loaded
  if (typeof value === 'object' && value !== null && 'fieldseal' in value && 'sources' in value)
    return value as FieldsealConfig // createMigrator checks the rest
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
  try {
    const module = (await import(pathToFileURL(file).href)) as { readonly default?: unknown }
    const exported = module.default
    // A CommonJS module that was compiled from `export default`.
    const nested = typeof exported === 'object' && exported !== null && 'default' in exported
    return nested ? exported.default : exported
  } catch (error) {
    const code: unknown = error instanceof Error && 'code' in error ? error.code : undefined
    const decorators =
      code === 'ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX' || (error instanceof SyntaxError && file.endsWith('ts'))
    if (decorators)
      throw new UsageError(
        `${path.basename(file)} holds TypeScript that Node does not read by itself, such as decorators: install @oxc-node/core and add --import @oxc-node/core/register, or name a compiled file with --config`,
      )
    throw error
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error)
}
