import type { TenantKeys } from '@fieldseal/core'
import { awsKms } from '@fieldseal/kms-aws'
import { type AwsKmsEmulator, type GcpKmsEmulator, startAwsKms, startGcpKms } from '@fieldseal/kms-emulators'
import { gcpKms } from '@fieldseal/kms-gcp'
import type { Applied } from '@fieldseal/migrate'
import pg from 'pg'
import { openClinic } from './clinic.ts'
import { TENANT } from './patient.ts'

export interface MoveScale {
  readonly rows: number
  /** Of activate, plan and apply. */
  readonly seconds: number
  /** Key records that were rewritten. */
  readonly records: number
  /** Rows of data that were inserted, updated or deleted. */
  readonly rowsWritten: number
  readonly calls: { readonly aws: Calls; readonly gcp: Calls }
}

type Calls = Readonly<Record<string, number>>

/** Rows that are opened afterwards, without the former key. */
const OPENED = 10_000

/**
 * Moves a tenant from an AWS to a Google key, as the guide has it; the clouds are emulators, asked by the vendors' own
 * clients. `url` is a copy of a filled database, whose keys stand under `keys`.
 */
export async function moveScale(url: string, keys: TenantKeys, rows: number): Promise<MoveScale> {
  const [aws, gcp] = [await startAwsKms(), await startGcpKms()]
  const amazon = awsKms({ endpoint: aws.endpoint, credentials: aws.credentials() })
  const google = gcpKms({ clientOptions: gcp.clientOptions() })
  const former = amazon.cmk(aws.createKey())
  const next = google.cmk(gcp.createKey())
  await move(url, { cmks: [former], formerCmks: keys.cmks })

  const before = await versionsOf(url)
  for (const cloud of [aws, gcp]) cloud.forgetCalls()
  const startedAt = performance.now()
  const moved = await move(url, { cmks: [next], formerCmks: [former] })
  const seconds = (performance.now() - startedAt) / 1_000
  const calls = { aws: counted(aws), gcp: counted(gcp) }
  const after = await versionsOf(url)
  if (after.digest !== before.digest) throw new Error('rows were written by the move')

  aws.deny()
  await openSome(url, { cmks: [next] }, rows)
  await google.close?.()
  await amazon.close?.()
  for (const cloud of [aws, gcp]) await cloud.stop()
  const records = 'rewritten' in moved ? moved.rewritten : 0
  return { rows, seconds, records, rowsWritten: after.written - before.written, calls }
}

async function move(url: string, keys: TenantKeys): Promise<Applied> {
  const { fieldseal, migrator, close } = await openClinic({ url, table: 'patients', keys })
  await fieldseal.activate(TENANT)
  const applied = await migrator.apply(await migrator.plan('move', { tenant: TENANT }))
  await close()
  return applied
}

/** @throws Error when a value does not open */
async function openSome(url: string, keys: TenantKeys, rows: number): Promise<void> {
  const { migrator, close } = await openClinic({ url, table: 'patients', keys })
  const shards = Math.min(1_000, Math.ceil(rows / OPENED))
  await migrator.verify({ shard: [1, shards] })
  await close()
}

/** Which version of each row there is, and how many rows were ever written. */
async function versionsOf(url: string): Promise<{ readonly digest: string; readonly written: number }> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  const { rows } = await client.query<{ digest: string; written: string }>(
    `SELECT (SELECT count(*) || ' ' || sum(hashtextextended(ctid::text || xmin::text, 0)) FROM patients) AS digest,
            (SELECT n_tup_ins + n_tup_upd + n_tup_del FROM pg_stat_user_tables WHERE relname = 'patients') AS written`,
  )
  await client.end()
  return { digest: rows[0]?.digest ?? '', written: Number(rows[0]?.written) }
}

function counted({ calls }: AwsKmsEmulator | GcpKmsEmulator): Calls {
  const counts: Record<string, number> = {}
  for (const { operation } of calls) counts[operation] = (counts[operation] ?? 0) + 1
  return counts
}

export function moveToMarkdown({ rows, seconds, records, rowsWritten, calls }: MoveScale): string {
  const told = (of: Calls) =>
    Object.entries(of)
      .map(([operation, count]) => `${count} ${operation}`)
      .join(', ')
  return [
    `| move from an AWS to a Google key | rows | seconds | rows written (0) | key records | calls to AWS | calls to Google |`,
    '|---|---|---|---|---|---|---|',
    `| one tenant | ${rows.toLocaleString('en-US')} | ${seconds.toFixed(2)} | ${rowsWritten}: ${rowsWritten === 0 ? 'met' : 'missed'} | ${records} | ${told(calls.aws)} | ${told(calls.gcp)} |`,
    '',
  ].join('\n')
}
