import { createFieldseal, type Fieldseal, type TenantKeys } from '@fieldseal/core'
import { createMigrator, type Migrator } from '@fieldseal/migrate'
import { fieldsealPlugin, mongoKeyStore, mongooseSource } from '@fieldseal/mongoose'
import mongoose, { type Mongoose, Schema } from 'mongoose'
import { FIELDS } from './patient.ts'

/** An application with one collection of three encrypted fields, and what migrates it. */
export interface DocumentClinic {
  readonly fieldseal: Fieldseal<'multi'>
  /** Its documents are written without their types. */
  readonly Patient: Mongoose['models'][string]
  readonly migrator: Migrator
  close(): Promise<void>
}

export async function openDocumentClinic(uri: string, keys: TenantKeys): Promise<DocumentClinic> {
  const fieldseal = createFieldseal({ app: 'bench', tenancy: 'multi', keyStore: mongoKeyStore(uri), keys })
  const own = new mongoose.Mongoose()
  const schema = new Schema(
    {
      clinicId: { type: String, required: true },
      ...Object.fromEntries(FIELDS.map((name) => [name, { type: String, encrypted: true }])),
    },
    { encrypted: { tenantBy: 'clinicId' }, collection: 'patients' },
  )
  schema.plugin(fieldsealPlugin, { fieldseal })
  const Patient = own.model('Patient', schema as never) as unknown as DocumentClinic['Patient']
  await own.connect(uri, { monitorCommands: true })
  await Patient.init()
  return {
    fieldseal,
    Patient,
    migrator: createMigrator({ fieldseal, sources: [mongooseSource(own.connection)] }),
    async close() {
      await fieldseal.close()
      await own.disconnect()
    },
  }
}
