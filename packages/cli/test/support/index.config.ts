import 'reflect-metadata'
import { createFieldseal, type BlindIndexOptions } from '@fieldseal/core'
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
}

/** What is deployed: before, while the index moves, after. */
const INDEXES: Readonly<Record<string, BlindIndexOptions>> = {
  before: { normalize: 'trim', unique: true },
  moving: { normalize: 'trim', unique: true, next: { normalize: 'email' } },
  after: { normalize: 'email', unique: true },
}

/** An application of its own for every command, as every process has. */
export function start() {
  const env = (name: string) => process.env[name] ?? ''
  const PatientSchema = new EntitySchema<Patient>({
    name: 'patients',
    columns: {
      id: { type: 'uuid', primary: true, generated: 'uuid' },
      clinicId: { type: 'varchar' },
      email: encryptedSchemaColumn({ blindIndex: INDEXES[env('INDEX')] ?? true }),
    },
  })
  EncryptedModel<Patient>({ tenantBy: 'clinicId' })(PatientSchema)
  const dataSource = new DataSource({
    type: 'postgres',
    url: env('DATABASE_URL'),
    entities: [PatientSchema],
    synchronize: true,
  })
  const fieldseal = createFieldseal({
    app: 'clinic',
    tenancy: 'multi',
    keyStore: typeormKeyStore(dataSource.options),
    keys: { cmks: [localKms({ file: env('KEY_FILE') }).cmk('one')] },
    cache: { refreshAfterMs: 20, validForMs: 100, maxStaleMs: 200, callDeadlineMs: 500 },
  })
  return { dataSource: withFieldseal(dataSource, { fieldseal }), fieldseal, PatientSchema }
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
