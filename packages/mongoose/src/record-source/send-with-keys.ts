import type { Converted } from '@fieldseal/core/adapter'
import { mongo } from 'mongoose'
import { valueAt, type Doc } from '../bson/documents.ts'
import type { RawCollection } from '../install/collection-state.ts'
import { KEYS_PATH } from '../path-graph/stored-model.ts'
import { newStamp } from '../write-path/draft.ts'
import type { DocumentKey } from './document-key.ts'
import { toArray } from './to-array.ts'

const { MongoServerError } = mongo
const STAMP = `${KEYS_PATH}.w`

/** A rewrap must not be lost after the old key is gone. */
export const DURABLE = { writeConcern: { w: 'majority' } } as const

/** An update of a document that is still as the filter says. */
export interface KeyedUpdate {
  readonly key: DocumentKey
  readonly filter: Doc
  readonly update: Doc
  /** Names of the cells that are replaced. */
  readonly replaced: ReadonlySet<string>
  /** KEKs of those that take their places. */
  readonly added: readonly mongo.Binary[]
}

/** How updates are sent. */
export interface Sending {
  /** Codes of the server that refuse one document and leave the others alone. @defaultValue none: they are thrown */
  readonly refusals?: readonly unknown[]
  readonly collation?: Doc
}

/** One statement, and the stamp that its document has afterwards. */
interface Statement {
  readonly filter: Doc
  readonly update: Doc
  readonly stamp: mongo.Binary
}

/**
 * Updates documents, and the ids of the KEKs that each keeps: all in one command, over one connection.
 *
 * @returns what became of each
 */
export async function sendWithKeys(
  raw: RawCollection,
  updates: readonly KeyedUpdate[],
  sending: Sending = {},
): Promise<ReadonlyMap<KeyedUpdate, Converted>> {
  const first = await send(
    raw,
    updates.map((each) => withAllKeys(each) ?? withMoreKeys(each)),
    sending,
  )
  const outcomes = new Map(updates.map((each, at) => [each, first[at] ?? 'changed']))
  // Somebody has written since it was read, perhaps elsewhere in it.
  const again = updates.filter((each) => outcomes.get(each) === 'changed' && each.key.keys !== undefined)
  const second = await send(raw, again.map(withMoreKeys), sending)
  for (const [at, each] of again.entries()) outcomes.set(each, second[at] ?? 'changed')
  return outcomes
}

/** Nobody has written since it was read, so these are all of its keys. */
function withAllKeys({ key: { keys }, filter, update, replaced, added }: KeyedUpdate): Statement | undefined {
  if (keys === undefined) return undefined
  const stamp = newStamp()
  const kept = [...keys.keks].filter(([cell]) => !replaced.has(cell)).map(([, kek]) => kek)
  const set = {
    ...(update['$set'] as Doc | undefined),
    [`${KEYS_PATH}.k`]: distinct([...kept, ...added]),
    [STAMP]: stamp,
  }
  return { filter: { ...filter, [STAMP]: keys.stamp }, update: { ...update, $set: set }, stamp }
}

function withMoreKeys({ filter, update, added }: KeyedUpdate): Statement {
  const stamp = newStamp()
  const set = { ...(update['$set'] as Doc | undefined), [STAMP]: stamp }
  return {
    filter,
    update: { ...update, $set: set, $addToSet: { [`${KEYS_PATH}.k`]: { $each: distinct(added) } } },
    stamp,
  }
}

async function send(
  raw: RawCollection,
  statements: readonly Statement[],
  { refusals = [], collation }: Sending,
): Promise<readonly Converted[]> {
  if (statements.length === 0) return []
  const operations = statements.map(({ filter, update }) => ({
    updateOne: { filter, update, ...(collation && { collation }) },
  }))
  const refused = new Set<number>()
  const { matchedCount } = await raw.bulkWrite(operations, { ...DURABLE, ordered: false }).catch((error: unknown) => {
    for (const at of refusedBy(error, refusals)) refused.add(at)
    return error as mongo.MongoBulkWriteError
  })
  const isWritten = await writtenOf(raw, statements, matchedCount)
  return statements.map((each, at) => (refused.has(at) ? 'refused' : isWritten(each) ? 'updated' : 'changed'))
}

/** The result of a bulk write tells how many documents were met, not which: their stamps do. */
async function writtenOf(
  raw: RawCollection,
  statements: readonly Statement[],
  matched: number,
): Promise<(statement: Statement) => boolean> {
  if (matched === 0 || matched === statements.length) return () => matched > 0
  const ids = statements.map(({ filter }) => filter['_id'])
  const options = { projection: { [STAMP]: 1 }, promoteBuffers: false, readPreference: 'primary' }
  const found = await toArray(raw.find({ _id: { $in: ids } }, options))
  const stamps = new Set(found.map((document) => hexOf(valueAt(document, STAMP))))
  return ({ stamp }) => stamps.has(hexOf(stamp))
}

/**
 * The statements that the server refused.
 *
 * @throws what else went wrong, without the operations that an error of a bulk write carries: their values may be plaintext
 */
export function refusedBy(error: unknown, refusals: readonly unknown[]): readonly number[] {
  if (!isOfBulkWrite(error)) throw error
  // Not the server has answered: the driver tells why it could not ask.
  const { errorResponse } = error as { readonly errorResponse?: unknown }
  if (errorResponse instanceof Error) throw errorResponse
  const writeErrors = [error.writeErrors].flat()
  const other = writeErrors.find(({ code }) => !refusals.includes(code))
  const isMore = writeErrors.length === 0 || error.result.getWriteConcernError() !== undefined
  if (other !== undefined || isMore) {
    const { message, code } = { message: other?.errmsg ?? error.message, code: other?.code ?? error.code }
    throw new MongoServerError({ message, code })
  }
  return writeErrors.map(({ index }) => index)
}

/** By its name: a connection may be of another copy of the driver. */
function isOfBulkWrite(error: unknown): error is mongo.MongoBulkWriteError {
  return Reflect.get(Object(error), 'name') === 'MongoBulkWriteError'
}

function hexOf(value: unknown): string {
  return value instanceof mongo.Binary ? value.toString('hex') : ''
}

function distinct(kekIds: readonly mongo.Binary[]): mongo.Binary[] {
  return [...new Map(kekIds.map((id) => [id.toString('hex'), id])).values()]
}
