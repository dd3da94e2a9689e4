import { PGlite } from '@electric-sql/pglite'
import { createFieldseal, type TenantKeys } from '@fieldseal/core'
import { PgliteStream } from '@fieldseal/pglite'
import { typeormKeyStore, withFieldseal } from '@fieldseal/typeorm'
import { DataSource } from 'typeorm'
import { PatientEntity } from './patient-entity.ts'
import { CACHE, type Stage } from './stage.ts'

export interface TypeormStage extends Stage {
  readonly dataSource: DataSource
}

/** TypeORM on a PostgreSQL in this process. */
export async function openTypeormStage(registry: ReadonlyMap<string, TenantKeys>): Promise<TypeormStage> {
  const chunks: Buffer[] = []
  const database = await PGlite.create()
  const dataSource = new DataSource({
    type: 'postgres',
    username: 'postgres',
    database: 'postgres',
    poolSize: 1,
    uuidExtension: 'pgcrypto',
    installExtensions: false,
    entities: [PatientEntity],
    synchronize: true,
    extra: { stream: () => new PgliteStream(database, (chunk) => chunks.push(Buffer.from(chunk))) },
  })
  const fieldseal = createFieldseal({
    app: 'quickstart',
    tenancy: 'multi',
    keyStore: typeormKeyStore(dataSource.options),
    cache: CACHE,
    keys: async (tenant) => registry.get(tenant) ?? null,
  })
  await withFieldseal(dataSource, { fieldseal }).initialize()
  const patients = dataSource.getRepository(PatientEntity)
  return {
    dataSource,
    fieldseal,
    queryByEmail: (email) => `findOneBy({ email: '${email}' })`,
    save: (patient) => patients.save(patients.create(patient)),
    readAll: (clinicId) => patients.find({ where: { clinicId }, order: { ward: 'ASC' } }),
    findByEmail: (email) => patients.findOneBy({ email }),
    storedRows: () => dataSource.query('SELECT * FROM patients ORDER BY clinic_id, ward'),
    async rowVersions() {
      // PostgreSQL gives a row a new xmin whenever it is written.
      const rows: { readonly id: string; readonly xmin: string }[] = await dataSource.query(
        'SELECT id, xmin::text AS xmin FROM patients',
      )
      return new Map(rows.map(({ id, xmin }) => [id, xmin]))
    },
    async swapNames(one, other) {
      await dataSource.query(
        'UPDATE patients p SET name = q.name FROM patients q WHERE (p.id = $1 AND q.id = $2) OR (p.id = $2 AND q.id = $1)',
        [one, other],
      )
    },
    traffic: () => Buffer.concat(chunks),
    async close() {
      await fieldseal.close()
      await dataSource.destroy()
      await database.close()
    },
  }
}
