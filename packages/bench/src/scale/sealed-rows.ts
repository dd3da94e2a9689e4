import { TEXT_PREFIX } from '@fieldseal/core/adapter'
import pg from 'pg'
import type { Table } from './clinic.ts'
import { FIELDS } from './patient.ts'

/** Magic, version and suite of an envelope of layout `kek`. */
const HEAD = Buffer.of(0xf8, 0x01, 0x01)

/** What an envelope under a KEK begins with. */
export function envelopeHead(kekId: string): Buffer {
  return Buffer.concat([HEAD, Buffer.from(kekId, 'hex')])
}

/** @throws Error unless every field of every row stands under this KEK: nothing was left out, nothing is plaintext */
export async function assertSealedUnder(
  kekId: string,
  { url, table, rows }: { readonly url: string; readonly table: Table; readonly rows: number },
): Promise<void> {
  const head = `${TEXT_PREFIX}${envelopeHead(kekId).toString('base64url')}`
  const sealed = FIELDS.map((field) => `left(${field}, ${head.length}) = $1`).join(' AND ')
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  const { rows: counted } = await client.query<{ all: string; sealed: string }>(
    `SELECT count(*) AS all, count(*) FILTER (WHERE ${sealed}) AS sealed FROM ${table}`,
    [head],
  )
  await client.end()
  const [found] = counted
  if (Number(found?.all) === rows && Number(found?.sealed) === rows) return
  throw new Error(`${found?.sealed} of ${found?.all} rows of ${table} stand under ${kekId}: ${rows} were expected`)
}
