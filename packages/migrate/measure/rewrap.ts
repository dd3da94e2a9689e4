/**
 * Rows a second of `rewrap` on PostgreSQL, beside a plain UPDATE of one row at a time and a plain batched UPDATE, and the
 * memory that it takes: `pnpm --filter @fieldseal/migrate measure 100000`.
 */
import 'reflect-metadata'
import { createFieldseal } from '@fieldseal/core'
import { createDatabase, startPostgres } from '@fieldseal/servers'
import { fakeKms } from '@fieldseal/testkit'
import {
  EncryptedModel,
  encryptedSchemaColumn,
  typeormKeyStore,
  typeormSource,
  withFieldseal,
} from '@fieldseal/typeorm'
import pg from 'pg'
import { DataSource, EntitySchema } from 'typeorm'
import { createMigrator } from '../src/create-migrator.ts'

interface Patient {
  id: string
  clinicId: string
  email: string
  ssn: string
  note: string
}

const rows = Number(process.argv[2] ?? 20_000)
const schema = new EntitySchema<Patient>({
  name: 'patients',
  columns: {
    id: { type: 'uuid', primary: true, generated: 'uuid' },
    clinicId: { type: 'varchar' },
    email: encryptedSchemaColumn(),
    ssn: encryptedSchemaColumn(),
    note: encryptedSchemaColumn(),
  },
})
EncryptedModel<Patient>({ tenantBy: 'clinicId' })(schema)

const server = await startPostgres()
if (server === null) throw new Error('no PostgreSQL')
const database = await createDatabase(server.url)
const bare = new DataSource({ type: 'postgres', url: database.url, entities: [schema], synchronize: true })
const fieldseal = createFieldseal({
  app: 'measure',
  tenancy: 'multi',
  keyStore: typeormKeyStore(bare.options),
  keys: { cmks: [fakeKms().cmk('cmk')] },
})
const dataSource = await withFieldseal(bare, { fieldseal }).initialize()
const migrator = createMigrator({ fieldseal, sources: [typeormSource(dataSource)] })
const patients = dataSource.getRepository(schema)
for (let at = 0; at < rows; at += 1_000)
  await fieldseal.runAs({ tenant: 'a' }, () =>
    patients.insert(
      Array.from({ length: Math.min(1_000, rows - at) }, (_, i) => ({
        clinicId: 'a',
        email: `patient-${at + i}@example.org`,
        ssn: `123-45-${at + i}`,
        note: 'a short note about a visit',
      })),
    ),
  )

const client = new pg.Client({ connectionString: database.url })
await client.connect()
const sample = Math.min(rows, 5_000)
const { rows: some } = await client.query<Patient>(`SELECT id, email, ssn, note FROM patients LIMIT ${sample}`)
const told = (what: string, count: number, startedAt: number) => {
  const rate = Math.round((count / (performance.now() - startedAt)) * 1_000)
  process.stdout.write(`${what}: ${rate} rows/s\n`)
  return rate
}

let startedAt = performance.now()
for (const { id, email, ssn, note } of some)
  await client.query('UPDATE patients SET email = $2, ssn = $3, note = $4 WHERE id = $1', [id, email, ssn, note])
const loop = told('plain UPDATE, one row at a time', sample, startedAt)

startedAt = performance.now()
for (let at = 0; at < sample; at += 500) {
  const part = some.slice(at, at + 500)
  const of = (name: keyof Patient) => part.map((row) => row[name])
  await client.query(
    'UPDATE patients t SET email = v.email, ssn = v.ssn, note = v.note FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS v(id, email, ssn, note) WHERE t.id = v.id',
    [of('id'), of('email'), of('ssn'), of('note')],
  )
}
told('plain UPDATE, 500 rows at a time', sample, startedAt)
await client.query('VACUUM ANALYZE patients')

await migrator.rotateKek({ tenant: 'a' })
const memory = () => process.memoryUsage().rss
const before = memory()
const cpu = process.cpuUsage()
let peak = before
const tenths: number[] = []
let lastAt = performance.now()
let nextTenth = rows / 10
startedAt = performance.now()
await migrator.rewrap({
  batchSize: Number(process.argv[3] ?? 500),
  concurrency: Number(process.argv[4] ?? 2),
  onProgress({ rows: done, pass }) {
    peak = Math.max(peak, memory())
    if (pass > 1 || done < nextTenth) return
    tenths.push(performance.now() - lastAt)
    lastAt = performance.now()
    nextTenth += rows / 10
  },
})
const rewrap = told('rewrap', rows, startedAt)
const { user, system } = process.cpuUsage(cpu)
const mib = (bytes: number) => Math.round(bytes / 2 ** 20)
process.stdout.write(
  `${(rewrap / loop).toFixed(1)}× the loop; last tenth / first tenth: ${((tenths.at(-1) ?? 0) / (tenths[0] ?? 1)).toFixed(2)}; ${Math.round((user + system) / rows)} µs of CPU a row; at most ${mib(peak - before)} MiB more than the ${mib(before)} that filling the table has left\n`,
)
startedAt = performance.now()
await migrator.verify()
told('verify', rows, startedAt)

await client.end()
await fieldseal.close()
await dataSource.destroy()
await database.drop()
await server.stop()
