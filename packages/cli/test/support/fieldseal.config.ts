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

export interface Patient {
  id: string
  clinicId: string
  email: string
  ssn: string
}

/** Without decorators, so that Node reads this file by itself. */
export const PatientSchema = new EntitySchema<Patient>({
  name: 'patients',
  columns: {
    id: { type: 'uuid', primary: true, generated: 'uuid' },
    clinicId: { type: 'varchar' },
    email: encryptedSchemaColumn({ blindIndex: { normalize: 'email' } }),
    ssn: encryptedSchemaColumn(),
  },
})
EncryptedModel<Patient>({ tenantBy: 'clinicId', keyspace: { per: 'id', of: 'patient' } })(PatientSchema)

const env = (name: string) => process.env[name] ?? ''
const kms = localKms({ file: env('KEY_FILE') })
const formerNames = env('FORMER_CMKS').split(',').filter(Boolean)
const bare = new DataSource({
  type: 'postgres',
  url: env('DATABASE_URL'),
  entities: [PatientSchema],
  synchronize: true,
})
const fieldseal = createFieldseal({
  app: 'clinic',
  tenancy: 'multi',
  keyStore: typeormKeyStore(bare.options),
  keys: async (tenant) => ({
    cmks: (env(`CMKS of ${tenant}`) || env('CMKS')).split(',').map((name) => kms.cmk(name)),
    formerCmks: formerNames.map((name) => kms.cmk(name)),
  }),
  cache: { refreshAfterMs: 20, validForMs: 100, maxStaleMs: 200, callDeadlineMs: 10_000 },
})
export const dataSource = withFieldseal(bare, { fieldseal })
export { fieldseal }

export default defineConfig({
  fieldseal,
  sources: [typeormSource(dataSource)],
  policy: { maxAgeDays: 90, maxWraps: Number(env('MAX_WRAPS') || 2 ** 31) },
  open: () => dataSource.initialize(),
  close: () => dataSource.destroy(),
})
