import 'reflect-metadata'
import { createFieldseal } from '@fieldseal/core'
import { localKms } from '@fieldseal/kms-local'
import {
  EncryptedModel,
  encryptedSchemaColumn,
  typeormKeyStore,
  typeormSource,
  withFieldseal,
} from '@fieldseal/typeorm'
import { DataSource, EntitySchema } from 'typeorm'
import { defineConfig } from '../../src/index.ts'
import { type Patient, PatientSchema } from './fieldseal.config.ts'

export interface Visit {
  id: string
  clinicId: string
  note: string
}

export const VisitSchema = new EntitySchema<Visit>({
  name: 'visits',
  columns: {
    id: { type: 'uuid', primary: true, generated: 'uuid' },
    clinicId: { type: 'varchar' },
    note: encryptedSchemaColumn(),
  },
})
EncryptedModel<Visit>({ tenantBy: 'clinicId' })(VisitSchema)

/** An application of its own for every command, as every process has. */
export function start() {
  const env = (name: string) => process.env[name] ?? ''
  const kms = localKms({ file: env('KEY_FILE') })
  const named = (name: string) =>
    env(name)
      .split(',')
      .filter(Boolean)
      .map((cmk) => kms.cmk(cmk))
  const dataSource = new DataSource({
    type: 'postgres',
    url: env('DATABASE_URL'),
    entities: [PatientSchema, VisitSchema],
    synchronize: true,
  })
  const fieldseal = createFieldseal({
    app: 'clinic',
    tenancy: 'multi',
    keyStore: typeormKeyStore(dataSource.options),
    keys: async () => ({ cmks: named('CMKS'), formerCmks: named('FORMER_CMKS') }),
    cache: { refreshAfterMs: 20, validForMs: 100, maxStaleMs: 200, callDeadlineMs: 2_000 },
  })
  return { dataSource: withFieldseal(dataSource, { fieldseal }), fieldseal }
}

/** Writes patients and visits as an application would. @returns the id of the first patient */
export async function seed(tenant: string): Promise<string> {
  const { dataSource, fieldseal } = start()
  await dataSource.initialize()
  const numbers = Array.from({ length: 5 }, (_, i) => i)
  const patients = await fieldseal.runAs({ tenant }, () =>
    dataSource
      .getRepository<Patient>(PatientSchema)
      .save(numbers.map((i) => ({ clinicId: tenant, email: `p${i}@x.org`, ssn: `123-45-${i}` }))),
  )
  await fieldseal.runAs({ tenant }, () =>
    dataSource.getRepository<Visit>(VisitSchema).save(numbers.map((i) => ({ clinicId: tenant, note: `visit ${i}` }))),
  )
  await fieldseal.close()
  await dataSource.destroy()
  return patients[0]?.id ?? ''
}

export default defineConfig(() => {
  const { dataSource, fieldseal } = start()
  return {
    fieldseal,
    sources: [typeormSource(dataSource)],
    open: () => dataSource.initialize(),
    close: () => dataSource.destroy(),
  }
})
