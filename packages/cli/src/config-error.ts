import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { isFieldsealError } from '@fieldseal/core'
import { advised } from '@fieldseal/migrate'
import { UsageError } from './exit-codes.ts'

/** Codes of Node for what does not answer, whatever it is. */
const NETWORK = /^(?:ECONN\w+|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|EPIPE|UND_ERR_\w+)$/

/** What went wrong in the code of a configuration, in its own words and with its place: nobody else knows what that code does. */
export function configError(error: unknown, file: string): unknown {
  const name = path.basename(file)
  if (needsLoader(error, file))
    return new UsageError(
      `${name} holds TypeScript that Node does not read by itself, such as decorators: install @oxc-node/core and add --import @oxc-node/core/register, or name a compiled file with --config`,
    )
  // Who has not come as far as a source has not met its database, but by what only a database says.
  const said = NETWORK.test(codeOf(causes(error).at(-1))) ? error : advised(error)
  return isFieldsealError(said) ? said : inOwnWords(error, `${name} cannot be loaded`, path.dirname(file))
}

/** The same for its `open`, which connects the sources. */
export function openError(error: unknown): unknown {
  const said = advised(error)
  const known = isFieldsealError(said) || (said instanceof Error && said.name === 'AbortError')
  return known ? said : inOwnWords(error, 'open() of the configuration failed')
}

function inOwnWords(error: unknown, what: string, folder = process.cwd()): unknown {
  if (error instanceof UsageError) return error
  const chain = causes(error)
  const why = chain.map(textOf).filter((text, i, all) => text !== '' && all.indexOf(text) === i)
  const where = placeOf(error, folder)
  const told = `${what}: ${why.join(': ')}${where === undefined ? '' : ` (${where})`}`
  return chain.some((one) => NETWORK.test(codeOf(one)))
    ? new UsageError(`${told}; see that what it asks can be reached, then run the same command again`, 'unavailable')
    : new UsageError(`${told}; mend it, or name another with --config`)
}

function needsLoader(error: unknown, file: string): boolean {
  if (!(error instanceof SyntaxError)) return false
  const code = codeOf(error)
  // Types are taken away, and what is left is no JavaScript.
  const decorator = code === '' && file.endsWith('ts') && error.message === 'Invalid or unexpected token'
  return decorator || code === 'ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX'
}

/** The error and what it says was the cause; an error of several, by its first. */
function causes(error: unknown): readonly unknown[] {
  const chain: unknown[] = []
  let one = error
  do {
    chain.push(one)
    if (one instanceof AggregateError) one = one.errors[0]
    else one = one instanceof Error ? one.cause : undefined
  } while (one !== undefined && chain.length < 5)
  return chain
}

function textOf(error: unknown): string {
  return error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error)
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : ''
}

/** File and line: of a syntax error, or of the first frame that is of the configuration itself. */
function placeOf(error: unknown, folder: string): string | undefined {
  const stack = (error instanceof Error ? error.stack : undefined) ?? ''
  const syntax = /^((?:file:)?\/.+|[A-Z]:\\.+):(\d+)\n/.exec(stack)
  const frames = stack.matchAll(/^ {4}at (?:.*\()?((?:file:)?\/.+?|[A-Z]:\\.+?):(\d+):\d+\)?$/gm)
  const own = [...frames].find(
    ([, at = '']) => !/[\\/](?:node_modules[\\/].*|(?:load-config|session|run|bin)\.[jt]s)$/.test(at),
  )
  const [, at, line] = syntax ?? own ?? []
  if (at === undefined) return undefined
  return `${path.relative(folder, at.startsWith('file:') ? fileURLToPath(at) : at)}:${line}`
}
