import pg from 'pg'
import type { Document } from 'bson'
import { decodeExactly, elementsOf, encode } from './bson-elements.ts'
import type { Command } from './command.ts'
import { handleFor } from './commands.ts'
import { describeDuplicate } from './duplicate-key.ts'
import {
  CommandError,
  DUPLICATE_KEY,
  NO_SUCH_TRANSACTION,
  translate,
  unpackSqlstate,
  WRITE_CONFLICT,
  type TranslatedError,
} from './errors.ts'
import type { Run } from './handle.ts'

/** The driver may run the whole transaction again after one of these. */
const TRANSIENT: readonly number[] = [WRITE_CONFLICT, NO_SUCH_TRANSACTION]
const LOCK_TIMEOUT = 24
/** MongoDB repeats a single write that conflicts by itself, so outside of transactions no client expects an error. */
const ATTEMPTS = 10

interface WriteError {
  index: number
  code: number
  errmsg: string
}

type Server = Omit<Run, 'command' | 'transaction'>

/** Runs one command. Never throws: what goes wrong becomes the reply, and ends the command's transaction. */
export async function runCommand(server: Server, command: Command): Promise<Buffer> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await runOnce(server, command)
    } catch (error) {
      const conflicts = codesOf(error).code === WRITE_CONFLICT && !command.transaction
      // What conflicted was undone as a whole.
      if (conflicts && attempt < ATTEMPTS) continue
      if (command.transaction) await server.sessions.abort(command.session)
      return encode(await failure(server, command, error))
    }
  }
}

async function runOnce(server: Server, command: Command): Promise<Buffer> {
  const handle = handleFor(command.name)
  const endsTransaction = /^(commit|abort)Transaction$/.test(command.name)
  const transaction = endsTransaction ? undefined : await server.sessions.clientOf(command)
  const reply = await handle({ ...server, command, transaction })
  if (!Buffer.isBuffer(reply)) return encode(reply)
  return hasWriteErrors(reply) ? encode(await withWriteErrors(server, command, reply)) : reply
}

function hasWriteErrors(reply: Buffer): boolean {
  return elementsOf(reply).some(({ name }) => name === 'writeErrors')
}

/**
 * Translates the errors of single writes. In a transaction the first one ends it, and a conflict is the command's; so
 * it is of the only write of a command.
 */
async function withWriteErrors(server: Server, command: Command, reply: Buffer): Promise<Document> {
  const result = decodeExactly(reply) as Document & { writeErrors: WriteError[] }
  const documents = command.name === 'insert' ? itemsOf(command, 'documents') : []
  const writeErrors: Document[] = []
  for (const { index, code: packed, errmsg } of result.writeErrors) {
    const translated = inTransaction(command, translate(unpackSqlstate(Number(packed))))
    const isAll = command.transaction !== undefined || writesIn(command) === 1
    if (translated.code === WRITE_CONFLICT && isAll) throw new CommandError(WRITE_CONFLICT, errmsg)
    const document = documents[Number(index)]
    const details = await detailsOf(server, command, translated, errmsg, document)
    writeErrors.push({ index: Number(index), code: translated.code, ...details })
  }
  if (command.transaction) await server.sessions.abort(command.session)
  return { ...result, writeErrors, ok: 1 }
}

async function failure(server: Server, command: Command, error: unknown): Promise<Document> {
  const { code, codeName } = inTransaction(command, codesOf(error))
  const message = error instanceof Error ? error.message : String(error)
  const details = await detailsOf(server, command, { code, codeName }, message)
  const labels = command.transaction && TRANSIENT.includes(code) ? ['TransientTransactionError'] : []
  return { ok: 0, code, codeName, ...details, ...(labels.length > 0 && { errorLabels: labels }) }
}

function codesOf(error: unknown): TranslatedError {
  if (error instanceof CommandError) return error
  if (error instanceof pg.DatabaseError && error.code !== undefined) return translate(error.code)
  return { code: 1, codeName: 'InternalError' }
}

/** A lock that a transaction does not get at once is a conflict with the one that holds it. */
function inTransaction(command: Command, error: TranslatedError): TranslatedError {
  return command.transaction && error.code === LOCK_TIMEOUT
    ? { code: WRITE_CONFLICT, codeName: 'WriteConflict' }
    : error
}

async function detailsOf(
  { pool }: Server,
  command: Command,
  { code }: TranslatedError,
  message: string,
  document?: Buffer,
): Promise<Document> {
  const collection = command.get(command.name)
  if (code !== DUPLICATE_KEY || typeof collection !== 'string') return { errmsg: message }
  const violation = { database: command.database, collection, message, document }
  // The write was refused all the same where the index has gone meanwhile.
  return describeDuplicate(pool, violation).then(
    (details) => ({ ...details }),
    () => ({ errmsg: message }),
  )
}

function writesIn(command: Command): number {
  return ['documents', 'updates', 'deletes'].reduce((sum, field) => sum + itemsOf(command, field).length, 0)
}

/** The encoded documents in a field of a command. */
function itemsOf(command: Command, field: string): Buffer[] {
  const element = elementsOf(command.body).find(({ name }) => name === field)
  if (!element) return []
  const array = element.bytes.subarray(1 + field.length + 1)
  return elementsOf(array).map(({ name, bytes }) => bytes.subarray(1 + name.length + 1))
}
