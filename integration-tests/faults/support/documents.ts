import { createFieldseal } from '@fieldseal/core'
import { localKms } from '@fieldseal/kms-local'
import { fieldsealPlugin, mongoKeyStore, mongooseSource } from '@fieldseal/mongoose'
import mongoose, { Schema } from 'mongoose'

export interface Patient {
  clinic: string
  email: string
  history: { note: string }[]
}

/** One process of an application over MongoDB, with its own caches and pools. */
export function startDocuments({ url, keyFile }: { readonly url: string; readonly keyFile: string }) {
  const schema = new Schema<Patient>(
    {
      clinic: { type: String, required: true },
      email: { type: String, encrypted: { blindIndex: { normalize: 'email' } } },
      history: [{ note: { type: String, encrypted: true } }],
    },
    { collection: 'patients', encrypted: { tenantBy: 'clinic' } },
  )
  const uri = `${url}${url.includes('?') ? '&' : '?'}serverSelectionTimeoutMS=1000`
  const connection = mongoose.createConnection(uri, { monitorCommands: true, autoCreate: false })
  const fieldseal = createFieldseal({
    app: 'clinic',
    tenancy: 'multi',
    keyStore: mongoKeyStore(uri),
    keys: { cmks: [localKms({ file: keyFile }).cmk('one')] },
    cache: { refreshAfterMs: 50, validForMs: 200, maxStaleMs: 1_500, callDeadlineMs: 3_000 },
  })
  const Patients = connection.model<Patient>('Patient', schema.plugin(fieldsealPlugin, { fieldseal }))
  return {
    fieldseal,
    Patients,
    config: {
      fieldseal,
      sources: [mongooseSource(connection)],
      open: () => connection.asPromise(),
      close: () => connection.close(),
    },
    async stop() {
      await fieldseal.close()
      await connection.close()
    },
  }
}
