import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createFieldseal } from '@fieldseal/core'
import { createKeyFile, localKms } from '@fieldseal/kms-local'
import { fieldsealPlugin, mongoKeyStore } from '@fieldseal/mongoose'
import { hasMongo, useMongoDatabase } from '@fieldseal/servers/vitest'
import mongoose, { model, Schema } from 'mongoose'
import { describe, expect, it } from 'vitest'
import { markedIn, shownIn } from './marked-code.ts'

describe.runIf(hasMongo())('the code of the adapter for Mongoose', () => {
  const database = useMongoDatabase()

  it('saves ciphertext and finds by an encrypted e-mail address', async () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'fieldseal-readme-'))
    const keyFile = path.join(folder, 'fieldseal.key')
    createKeyFile(keyFile, ['clinic-7'])
    const { uri } = database
    // README:begin
    const kms = localKms({ file: keyFile })
    const fieldseal = createFieldseal({
      app: 'clinic',
      tenancy: 'multi',
      keyStore: mongoKeyStore(uri),
      keys: async (tenant) => (tenant === 'clinic-7' ? { cmks: [kms.cmk('clinic-7')] } : null),
    })

    const patientSchema = new Schema(
      {
        clinicId: { type: String, required: true },
        email: { type: String, encrypted: { blindIndex: { normalize: 'email', unique: true } } },
        born: { type: Date, encrypted: true },
        history: [{ at: Date, note: { type: String, encrypted: true } }],
        phones: { type: Map, of: { type: String, encrypted: true } },
        consent: { type: new Schema({ text: String }), encrypted: true },
      },
      { encrypted: { tenantBy: 'clinicId' } },
    )
    patientSchema.plugin(fieldsealPlugin, { fieldseal })
    const PatientModel = model('Patient', patientSchema)
    await mongoose.connect(uri, { monitorCommands: true })

    const ada = await fieldseal.runAs({ tenant: 'clinic-7' }, async () => {
      await PatientModel.create({ clinicId: 'clinic-7', email: 'Ada@Example.org', phones: { work: '555-1815' } })
      return PatientModel.findOne({ email: 'ada@example.org' })
    })
    // README:end
    expect(ada?.email).toBe('Ada@Example.org')
    expect(ada?.phones?.get('work')).toBe('555-1815')
    const stored = await mongoose.connection.db?.collection('patients').findOne({})
    expect(JSON.stringify(stored)).not.toContain('555-1815')
    expect(stored?.['email']).toMatchObject({ c: { sub_type: 128 }, b: { sub_type: 128 } })
    await mongoose.disconnect()
    await fieldseal.close()
    rmSync(folder, { recursive: true, force: true })
  })
})

it("is what the adapter's README shows", () => {
  const readme = readFileSync(path.join(import.meta.dirname, '..', '..', 'packages', 'mongoose', 'README.md'), 'utf8')
  expect(shownIn(readme)).toBe(markedIn(import.meta.filename).join('\n\n'))
})
