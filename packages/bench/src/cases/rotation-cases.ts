import type { TenantKeys } from '@fieldseal/core'
import pg from 'pg'
import { type Clinic, openClinic, type Table } from '../scale/clinic.ts'
import { TENANT } from '../scale/patient.ts'
import { assertSealedUnder } from '../scale/sealed-rows.ts'
import { readPatients, updateInBatches, updateOneByOne } from './plain-updates.ts'

/** One way to go over all rows of a table, on a database of its own. */
export interface RotationCase {
  readonly name: string
  readonly table: Table
  readonly rows: number
  /** At least so many times the rows a second of the loop. */
  readonly goal?: number
  open(url: string): Promise<OpenedCase>
}

export interface OpenedCase {
  run(): Promise<unknown>
  /** @throws Error unless every row was gone over */
  check(): Promise<void>
  close(): Promise<void>
}

export const LOOP = 'plain UPDATE, one row at a time'

/** On a durable server each row waits for the disk: a part of the rows tells as much. */
const LOOP_ROWS = 4_000

export function rotationCases(keys: TenantKeys, rows: number): readonly RotationCase[] {
  function plain(name: string, update: typeof updateOneByOne, rowsOfRun: number): RotationCase {
    return {
      name,
      table: 'patients',
      rows: rowsOfRun,
      async open(url) {
        const client = new pg.Client({ connectionString: url })
        await client.connect()
        const patients = (await readPatients(client)).slice(0, rowsOfRun)
        let updated = 0
        return {
          run: async () => (updated = await update(client, patients)),
          check: async () => assertCount(name, updated, rowsOfRun),
          close: () => client.end(),
        }
      },
    }
  }

  function sealing(name: 'rewrap' | 'backfill', table: Table, goal: number): RotationCase {
    return {
      name,
      table,
      rows,
      goal,
      async open(url) {
        const clinic = await openClinic({ url, table, keys })
        const { rotated } = await clinic.migrator.rotateKek({ tenant: TENANT })
        return {
          run: () => clinic.migrator[name](),
          async check() {
            await assertSealedUnder(rotated[0]?.kekId ?? '', { url, table, rows })
            await verify(clinic, rows)
          },
          close: () => clinic.close(),
        }
      },
    }
  }

  return [
    plain(LOOP, updateOneByOne, Math.min(rows, LOOP_ROWS)),
    plain('plain UPDATE, 500 rows at a time', updateInBatches, rows),
    sealing('rewrap', 'patients', 5),
    sealing('backfill', 'newcomers', 4),
    {
      name: 'verify',
      table: 'patients',
      rows,
      async open(url) {
        const clinic = await openClinic({ url, table: 'patients', keys })
        return { run: () => verify(clinic, rows), check: async () => {}, close: () => clinic.close() }
      },
    },
  ]
}

async function verify({ migrator }: Clinic, rows: number): Promise<void> {
  const { models } = await migrator.verify() // rejects while a value does not open
  assertCount('verify', models[0]?.unchanged ?? 0, rows)
}

function assertCount(name: string, count: number, rows: number): void {
  if (count !== rows) throw new Error(`${name} went over ${count} of ${rows} rows`)
}
