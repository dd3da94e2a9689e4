import { nodeEngine } from '../cipher/aead.ts'
import type { RandomSource } from '../cipher/random.ts'
import { recordIdBytes, type RecordId } from '../context/record-id.ts'
import type { Envelope } from '../envelope/layout.ts'
import { sealDirectRow } from '../field/direct-value.ts'
import type { ValueToSeal } from '../field/seal-rows.ts'
import type { DirectKey, DirectKeys } from '../keyring/direct-keys.ts'
import { CALLS_AT_ONCE, rowContext } from './direct-lookup.ts'
import { pooled } from './pooled.ts'
import type { Row } from './ports.ts'

/** A row of a model of mode `direct` and its encoded values. */
export interface DirectRow {
  readonly row: Row<unknown>
  readonly values: readonly ValueToSeal[]
}

export interface SealedDirectRow {
  readonly envelopes: readonly Envelope[]
  readonly recordId: RecordId
}

export interface SealDirectDeps {
  readonly app: string
  readonly directKeys: DirectKeys
  readonly random: RandomSource
}

/** Seals rows, each under a new DEK that the tenant's CMK wraps itself: one call to the KMS per row with values. */
export async function sealDirectRows(
  rows: readonly DirectRow[],
  via: unknown,
  { app, directKeys, random }: SealDirectDeps,
): Promise<ReadonlyMap<Row<unknown>, SealedDirectRow>> {
  const keys = new Map<string, DirectKey>()
  const keyNameOf = ({ facts }: Row<unknown>) => `${facts.tenant}\0${facts.keyspace}`
  for (const { row } of rows) {
    const name = keyNameOf(row)
    const { tenant, keyspace } = row.facts
    if (!keys.has(name)) keys.set(name, await directKeys.toWrap({ app, tenant, keyspace }, via))
  }
  const sealed = new Map<Row<unknown>, SealedDirectRow>()
  await pooled(rows, CALLS_AT_ONCE, async ({ row, values }) => {
    const key = keys.get(keyNameOf(row)) as DirectKey // one for each row above
    const { dek, wrap } = await directKeys.newDek(key, rowContext(key, row))
    try {
      const direct = {
        key: dek.exposeKeyObject(),
        recordId: recordIdBytes(key.record.id),
        label: wrap.keyVersion ?? '',
        blob: wrap.blob,
      }
      sealed.set(row, { envelopes: sealDirectRow(direct, values, nodeEngine, random), recordId: key.record.id })
    } finally {
      dek[Symbol.dispose]()
    }
  })
  return sealed
}
