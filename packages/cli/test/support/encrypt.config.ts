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
  phone: string | null
  born: Date | null
}

/** The build before Fieldseal. */
export const BeforeSchema = new EntitySchema<Patient>({
  name: 'patients',
  columns: {
    id: { type: 'uuid', primary: true, generated: 'uuid' },
    clinicId: { type: 'varchar' },
    phone: { type: 'varchar', length: 40, nullable: true },
    born: { type: 'timestamptz', nullable: true },
  },
})

/** The builds of the guide, one for each state. */
function patientSchema(state: 'plaintext' | 'migrating' | 'encrypted') {
  const schema = new EntitySchema<Patient & { oldBorn?: unknown }>({
    name: 'patients',
    columns: {
      id: { type: 'uuid', primary: true, generated: 'uuid' },
      clinicId: { type: 'varchar' },
      phone: encryptedSchemaColumn({ nullable: true, blindIndex: { normalize: 'digits' }, state }),
      born: encryptedSchemaColumn({
        name: 'born_sealed',
        type: 'date',
        nullable: true,
        ...(state === 'encrypted' ? {} : { state, plaintextIn: 'born' }),
      }),
      ...(state === 'encrypted' ? {} : { oldBorn: { type: 'timestamptz', name: 'born', nullable: true } }),
    },
  })
  EncryptedModel<Patient>({ tenantBy: 'clinicId' })(schema)
  return schema
}

/** An application of its own for every command, as every process has, in the state of the environment. */
export function start() {
  const state = process.env['STATE'] as 'plaintext' | 'migrating' | 'encrypted' // the test sets it
  const schema = patientSchema(state)
  const dataSource = new DataSource({ type: 'postgres', url: process.env['DATABASE_URL'] ?? '', entities: [schema] })
  const kms = localKms({ file: process.env['KEY_FILE'] ?? '' })
  const fieldseal = createFieldseal({
    app: 'clinic',
    tenancy: 'multi',
    keyStore: typeormKeyStore(dataSource.options),
    keys: { cmks: [kms.cmk('one')] },
  })
  return { dataSource: withFieldseal(dataSource, { fieldseal }), fieldseal, schema }
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
