import type { PartsOf } from '../blind-index/live-tokens.ts'
import { FieldsealError, isFieldsealError } from '../errors/fieldseal-error.ts'
import type { OperationContext } from '../tenant/tenant-context.ts'
import { type BatchKeyDeps, resolveKeys, wantedBy } from './batch-keys.ts'
import { assertOwnRow } from './key-lookup.ts'
import type { BlindIndex, Row, SealedRow } from './ports.ts'
import { tokensOf } from './seal-batch.ts'
import { isUnreadable } from './unreadable.ts'

/** Tokens of values that are stored unencrypted. Nothing is sealed, and no KEK of values is asked for. */
export async function indexBatch(
  rows: readonly Row<unknown>[],
  context: OperationContext,
  via: unknown,
  deps: BatchKeyDeps,
): Promise<readonly SealedRow['tokens'][]> {
  for (const row of rows) assertOwn(row, context)
  const keys = await resolveKeys({ ...wantedBy(rows), keyspaces: [] }, via, deps)
  try {
    return rows.map((row) => tokensOf(row, keys, (index) => (isPlaintext(index) ? partsIfAny : undefined)))
  } finally {
    keys.release()
  }
}

/** Nothing is bound to the row, so its id need not be known. */
function assertOwn({ map, facts, cells }: Row<unknown>, context: OperationContext): void {
  assertOwnRow(map.id, facts, context)
  for (const { field, value } of cells)
    if (isUnreadable(value)) throw new FieldsealError('ERR_UNREADABLE_VALUE', { model: map.id, field: field.id })
}

function isPlaintext({ fields }: BlindIndex): boolean {
  return fields.some(({ state }) => state === 'plaintext')
}

/** A value that its index cannot hold is stored without token: in state `plaintext` nothing is blocked, and `backfill` lists it. */
const partsIfAny: PartsOf = (shape, values) => {
  try {
    return shape.parts(values)
  } catch (error) {
    if (isFieldsealError(error) && error.code === 'ERR_VALUE_INVALID') return null
    throw error
  }
}
