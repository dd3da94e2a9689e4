import {
  type Envelope,
  envelopeFromText,
  type KekId,
  type KeyInfo,
  type RecordMap,
  type RecordSource,
  type StoredRow,
} from '@fieldseal/core/adapter'
import type { Surroundings } from '../engine/target.ts'
import { isDestroyed, isKek, keyRecords } from './key-versions.ts'

/** Rows of one model that hold a value under a key. */
export interface RowsUnder {
  readonly model: string
  readonly rows: number
}

/** How many rows need a key, exactly: counted by the source where it can, else row by row from the headers of their values. */
export async function rowsUnder({ sources }: Surroundings, kekId: KekId): Promise<readonly RowsUnder[]> {
  const found: RowsUnder[] = []
  for (const source of sources)
    for (const map of source.models) found.push({ model: map.id, rows: await countUnder(source, map, kekId) })
  return found
}

/** What stands under a key, in words, rows apart: none when it can end. A key of a data subject that is not destroyed may come back. */
export async function needsOf(
  surroundings: Surroundings,
  key: KeyInfo,
): Promise<{
  readonly rows: readonly string[]
  readonly subjects: readonly string[]
  readonly indexes: readonly string[]
}> {
  const rows = await rowsUnder(surroundings, key.id)
  const tenant = surroundings.host.tenancy === 'single' ? undefined : key.tenant
  const records = await keyRecords(surroundings, tenant)
  const subjects = records.filter((one) => isKek(one) && one.parent === key.id && !isDestroyed(one))
  return {
    rows: rows.flatMap((one) => (one.rows > 0 ? [`${one.rows} rows of ${one.model}`] : [])),
    subjects: subjects.length === 0 ? [] : [`${subjects.length} keys of data subjects`],
    indexes: records.flatMap((one) =>
      one.kind === 'index' && one.role !== 'old' && one.kekId === key.id ? [`the index ${one.model}.${one.index}`] : [],
    ),
  }
}

async function countUnder(source: RecordSource, map: RecordMap, kekId: KekId): Promise<number> {
  const counted = await source.count(map, { kekId })
  if (counted.exact) return counted.rows
  let rows = 0
  for await (const page of source.pages(map, { size: 1_000, kekId }))
    for (const row of page) if (keysIn(row).has(kekId)) rows++
  return rows
}

/** The ids of KEKs, or of direct key records, that the headers of a row's values name. Proves nothing about who wrote them. */
export function keysIn(row: StoredRow): ReadonlySet<KekId> {
  const keys = new Set<KekId>()
  for (const cell of cellsIn(row)) {
    const id = keyIdIn(cell)
    if (id !== undefined) keys.add(id)
  }
  return keys
}

export function cellsIn({ cells, occurrences }: StoredRow): readonly unknown[] {
  return occurrences === undefined ? Object.values(cells) : occurrences.map(({ value }) => value)
}

/** undefined for what is no envelope. */
export function keyIdIn(cell: unknown): KekId | undefined {
  const bytes = bytesOf(cell)
  if (bytes === undefined || bytes.length < 16 || bytes[0] !== 0xf8) return undefined
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex', 3, 15) as KekId // 12 bytes as hex
}

function bytesOf(cell: unknown): Envelope | Uint8Array | undefined {
  if (cell instanceof Uint8Array) return cell
  if (typeof cell !== 'string') return undefined
  try {
    return envelopeFromText(cell)
  } catch {
    return undefined // plaintext
  }
}
