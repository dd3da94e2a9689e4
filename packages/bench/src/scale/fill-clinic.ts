import { randomUUID } from 'node:crypto'
import type { TenantKeys } from '@fieldseal/core'
import { attach, type Envelope, envelopeToText } from '@fieldseal/core/adapter'
import { createDatabase, type Database } from '@fieldseal/servers'
import { type Clinic, openClinic, type Table } from './clinic.ts'
import { patient, TENANT } from './patient.ts'

const BATCH = 2_000

/** Makes a database with so many rows of one tenant, to be copied for each measurement. */
export async function fillClinic(
  serverUrl: string,
  { table, keys, rows }: { readonly table: Table; readonly keys: TenantKeys; readonly rows: number },
  onProgress: (text: string) => void,
): Promise<Database> {
  const database = await createDatabase(serverUrl)
  const clinic = await openClinic({ url: database.url, table, keys }, { create: true })
  await clinic.fieldseal.prepare(TENANT)
  if (table === 'newcomers') await insertPlain(clinic, rows)
  else
    for (let from = 0; from < rows; from += BATCH) {
      onProgress(`filling: ${from} of ${rows} rows`)
      await insertSealed(clinic, from, Math.min(rows, from + BATCH))
    }
  await clinic.dataSource.query(`VACUUM ANALYZE ${table}`)
  await clinic.close()
  return database
}

async function insertPlain({ dataSource, table }: Clinic, rows: number): Promise<void> {
  const { note } = patient(0)
  await dataSource.query(
    `INSERT INTO ${table} (id, "clinicId", email, ssn, note)
     SELECT gen_random_uuid(), $1, 'patient-' || n || '@example.org', '123-45-' || n, $2 FROM generate_series(0, $3::int - 1) n`,
    [TENANT, note, rows],
  )
}

/** As an application's insert, but for the ORM around it. */
async function insertSealed({ fieldseal, source, dataSource, table }: Clinic, from: number, to: number): Promise<void> {
  const host = attach(fieldseal, { name: 'bench', ormVersion: '0' })
  const [map] = source.models
  if (map === undefined) throw new Error('the clinic has a model')
  const context = fieldseal.runAs({ tenant: TENANT }, () => host.capture())
  const ids = Array.from({ length: to - from }, () => randomUUID())
  const sealed = await host.cipher.seal(
    ids.map((id, i) => {
      const values = new Map(Object.entries(patient(from + i)))
      const cells = map.fields.map((field) => ({ field, value: values.get(field.path) }))
      return { map, facts: map.facts({ id, clinicId: TENANT }, context), cells }
    }),
    context,
  )
  const columns = map.fields.map((_field, at) =>
    sealed.map(({ envelopes }) => envelopeToText(envelopes[at] as Envelope)),
  ) // no value is null
  await dataSource.query(
    `INSERT INTO ${table} (id, "clinicId", ${map.fields.map(({ path }) => path).join(', ')})
     SELECT id, $1, ${map.fields.map((_field, at) => `v${at}`).join(', ')}
     FROM unnest($2::uuid[], ${map.fields.map((_field, at) => `$${at + 3}::text[]`).join(', ')}) AS v(id, ${map.fields.map((_field, at) => `v${at}`).join(', ')})`,
    [TENANT, ids, ...columns],
  )
}
