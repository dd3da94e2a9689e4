import { mongo } from 'mongoose'

const { MongoBulkWriteError } = mongo

/** What the driver knows of a bulk write. https://mongodb.github.io/node-mongodb-native/7.0/classes/BulkWriteResult.html */
export interface BulkResult {
  readonly matchedCount: number
  readonly upsertedCount: number
  getRawResponse(): RawResult
}
interface RawResult {
  ok: number
  nInserted: number
  nUpserted: number
  nMatched: number
  nModified: number
  nRemoved: number
  readonly insertedIds: Indexed[]
  readonly upserted: Indexed[]
  readonly writeErrors: WriteError[]
  readonly writeConcernErrors: unknown[]
}
interface Indexed {
  readonly index: number
}
interface WriteError extends Indexed {
  readonly err: { index: number }
}

/** Operations of a bulk write that are sent together. */
export interface Turn {
  /** `_id` of the document of each operation, as far as it is known. */
  readonly ids: readonly unknown[]
  run(): Promise<BulkResult>
}

/**
 * Runs the turns of one bulk write in order and tells what became of all of it as the driver does: one result, or one
 * error with the index of every operation that failed, so that Mongoose knows which documents are saved.
 *
 * @throws MongoBulkWriteError with the first error as its `cause`, or that error itself where nothing was written
 */
export async function runInTurns(turns: readonly Turn[], ordered: boolean): Promise<BulkResult> {
  const whole = emptyResult()
  const parts: BulkResult[] = []
  const failures: unknown[] = []
  const ids = turns.flatMap((turn) => turn.ids)
  let first = 0
  for (const turn of turns) {
    const { result, error } = await turn.run().then(
      (done) => ({ result: done, error: undefined }),
      (failed: unknown) => ({ result: resultOf(failed), error: { failed } }),
    )
    if (result !== undefined) parts.push(result)
    if (result !== undefined) merge(whole, result.getRawResponse(), first)
    if (error !== undefined) {
      failures.push(error.failed)
      // An error that is about no operation leaves open which of them were written: none counts as saved.
      const count = ordered ? ids.length - first : turn.ids.length
      if ((result?.getRawResponse().writeErrors ?? []).length === 0)
        for (let at = first; at < first + count; at++) whole.writeErrors.push(writeError(error.failed, at, ids[at]))
      if (ordered) break
    }
    first += turn.ids.length
  }
  const [part] = parts
  const [cause] = failures
  if (part === undefined) throw cause
  // The driver does not export the class of its results.
  const made = new (part.constructor as new (raw: RawResult, isOrdered: boolean) => BulkResult)(whole, ordered)
  if (failures.length === 0) return made
  const told = { ...messageOf(cause), writeErrors: whole.writeErrors }
  throw Object.assign(new MongoBulkWriteError(told as never, made as never), { cause })
}

function emptyResult(): RawResult {
  const counts = { nInserted: 0, nUpserted: 0, nMatched: 0, nModified: 0, nRemoved: 0 }
  return { ok: 1, ...counts, insertedIds: [], upserted: [], writeErrors: [], writeConcernErrors: [] }
}

function merge(whole: RawResult, part: RawResult, first: number): void {
  for (const count of ['nInserted', 'nUpserted', 'nMatched', 'nModified', 'nRemoved'] as const)
    whole[count] += part[count]
  for (const list of ['insertedIds', 'upserted'] as const)
    for (const item of part[list]) whole[list].push({ ...item, index: item.index + first })
  for (const failed of part.writeErrors) {
    failed.err.index += first // what its getters read
    whole.writeErrors.push(failed)
  }
  whole.writeConcernErrors.push(...part.writeConcernErrors)
}

/** What an error of the driver tells of the operations that came before it. */
function resultOf(error: unknown): BulkResult | undefined {
  return error instanceof MongoBulkWriteError ? (error.result as unknown as BulkResult) : undefined
}

/** Alike to the driver's, whose class it does not export; Mongoose 8 looks for the document by the `_id` of `op`. */
function writeError(error: unknown, index: number, _id: unknown): WriteError {
  const err = { index, errmsg: messageOf(error).message, op: { _id } }
  return { ...err, err }
}

/** A code only where it is the server's: ours stands in the cause. */
function messageOf(error: unknown): { readonly message: string; readonly code?: number } {
  const { message, code } = Object(error) as { readonly message?: unknown; readonly code?: unknown }
  return { message: String(message), ...(typeof code === 'number' ? { code } : {}) }
}
