import { createFieldseal } from '@fieldseal/core'
import { createMigrator } from '@fieldseal/migrate'
import { fieldsealPlugin, mongoKeyStore, mongooseSource } from '@fieldseal/mongoose'
import { hasMongo, useMongoDatabase } from '@fieldseal/servers/vitest'
import { fakeKms } from '@fieldseal/testkit'
import mongoose, { Schema } from 'mongoose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

const patientSchema = () =>
  new Schema(
    {
      clinic: { type: String, required: true },
      email: { type: String, encrypted: { blindIndex: { normalize: 'email' } } },
      born: { type: Date, encrypted: true },
      history: [{ at: Date, note: { type: String, encrypted: true } }],
      tags: [{ type: String, encrypted: { blindIndex: true } }],
      phones: { type: Map, of: { type: String, encrypted: true } },
    },
    { collection: 'patients', encrypted: { tenantBy: 'clinic' } },
  )

describe.runIf(hasMongo())('migrations of documents', () => {
  const database = useMongoDatabase()
  const kms = fakeKms()

  async function start() {
    const connection = mongoose.createConnection(database.uri, { monitorCommands: true })
    const fieldseal = createFieldseal({
      app: 'clinic',
      tenancy: 'multi',
      keyStore: mongoKeyStore(database.uri),
      keys: { cmks: [kms.cmk('cmk-1')] },
      cache: { refreshAfterMs: 20, validForMs: 100, maxStaleMs: 200, callDeadlineMs: 500 },
    })
    const Patient = connection.model('Patient', patientSchema().plugin(fieldsealPlugin, { fieldseal }))
    await connection.asPromise()
    const migrator = createMigrator({ fieldseal, sources: [mongooseSource(connection)] })
    return { connection, fieldseal, Patient, migrator }
  }
  let app: Awaited<ReturnType<typeof start>>
  beforeAll(async () => {
    app = await start()
  })
  afterAll(async () => {
    await app?.fieldseal.close()
    await app?.connection.close()
  })

  const patientOf = (i: number) => ({
    clinic: 'a',
    email: `P${i}@x.org`,
    born: new Date(i),
    history: [{ note: `first of ${i}` }, { note: `second of ${i}` }],
    tags: ['one', `two of ${i}`],
    phones: { home: `h${i}`, work: `w${i}` },
  })

  async function readAll(count: number): Promise<void> {
    const { fieldseal, Patient } = app
    const found = await fieldseal.runAs({ tenant: 'a' }, () =>
      Patient.find({ clinic: 'a' }).lean({ flattenMaps: true }),
    )
    expect(found).toHaveLength(count)
    for (const doc of found) {
      const i = Number(doc.email?.slice(1, -6))
      expect(doc).toMatchObject(patientOf(i))
    }
  }

  it('rewraps, verifies and re-encrypts every place of a document, arrays and Maps too', async () => {
    const { fieldseal, Patient, migrator } = app
    await fieldseal.runAs({ tenant: 'a' }, () => Patient.insertMany(Array.from({ length: 30 }, (_, i) => patientOf(i))))
    await migrator.rotateKek({ tenant: 'a' })
    const rewrapped = await migrator.rewrap({ tenant: 'a', batchSize: 7 })
    expect(rewrapped.models).toMatchObject([{ model: 'patients', rows: 30, updated: 30, remaining: 0 }])
    await readAll(30)
    const verified = await migrator.verify({ batchSize: 11 })
    expect(verified.models).toMatchObject([{ unchanged: 30, counts: { values: 30 * 8, tokens: 30 * 3, outdated: 0 } }])
    const { keys } = await migrator.status()
    const leaked = keys.find(({ purpose }) => purpose === 'wrap')?.id ?? ''
    const renewed = await migrator.reEncrypt({ kek: leaked })
    expect(renewed.models).toMatchObject([{ updated: 30, remaining: 0 }])
    await readAll(30)
    const found = () =>
      fieldseal.runAs({ tenant: 'a' }, () => Patient.countDocuments({ clinic: 'a', email: 'p7@X.org' }))
    expect(await found()).toBe(1)
    expect((await migrator.verify()).remaining).toBe(0)
  }, 60_000)

  it('retires a key that no document names any more, and shreds a tenant', async () => {
    const { connection, fieldseal, Patient, migrator } = app
    const { keys } = await migrator.status()
    const old = keys.find(({ purpose, version }) => purpose === 'wrap' && version === 1)?.id ?? ''
    const plan = await migrator.plan('retire', { kek: old, longestTransactionMs: 0 })
    await new Promise((resolve) => setTimeout(resolve, Date.parse(plan.notBefore ?? '') - Date.now() + 20))
    expect(await migrator.apply(plan)).toMatchObject({ state: 'retired' })
    await readAll(30)
    const shred = await migrator.plan('shred', { tenant: 'a', destroyAfterDays: 0 })
    expect(await migrator.apply(shred, { confirm: 'a' })).toMatchObject({ report: { state: 'destroyed' } })
    const read = fieldseal.runAs({ tenant: 'a' }, () => Patient.findOne({ clinic: 'a' }))
    await expect(read).rejects.toMatchObject({ kind: 'erased' })
    const left = await connection
      .getClient()
      .db()
      .collection('patients')
      .countDocuments({ 'email.b': { $exists: true } })
    expect(left).toBe(0)
  }, 60_000)
})
