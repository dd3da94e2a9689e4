import { readFileSync } from 'node:fs'
import path from 'node:path'
import { createFieldseal } from '@fieldseal/core'
import type { FieldState } from '@fieldseal/core/adapter'
import { createMigrator } from '@fieldseal/migrate'
import { fieldsealPlugin, mongoKeyStore, mongooseSource } from '@fieldseal/mongoose'
import { hasMongo, useMongoDatabase } from '@fieldseal/servers/vitest'
import { fakeKms } from '@fieldseal/testkit'
import mongoose, { type Connection, Schema } from 'mongoose'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { down, up } from './support/encrypt-patients.ts'
import { deployed } from './support/fieldseal-config.ts'

const GUIDE = path.join(import.meta.dirname, '../../docs/guides/encrypt-an-existing-path.md')
const SCRIPT = path.join(import.meta.dirname, 'support/encrypt-patients.ts')
const BORN = new Date(1815, 11, 10)

function patientSchema(state: FieldState) {
  const schema = new Schema({
    name: { type: String, encrypted: { state } },
    born: { type: Date, encrypted: { state } },
    email: { type: String, encrypted: { state, plaintextIn: 'mail', blindIndex: { normalize: 'email' } } },
    ward: String,
  })
  return schema
}

function makeOld(connection: Connection) {
  return connection.model('Patient', new Schema({ name: String, born: Date, mail: String, ward: String }), 'patients')
}

describe.runIf(hasMongo())('documents and migrate-mongo', () => {
  const database = useMongoDatabase()
  const kms = fakeKms()
  const closing: (() => Promise<unknown>)[] = []
  let old: Connection
  beforeAll(async () => {
    old = await mongoose.createConnection(database.uri).asPromise()
  })
  afterAll(async () => {
    for (const close of closing) await close()
    await old.close()
  })
  beforeEach(() => old.collection('patients').deleteMany({}))

  /** The build before Fieldseal. */
  const oldModel = () => (old.models['Patient'] as ReturnType<typeof makeOld> | undefined) ?? makeOld(old)

  async function deploy(state: FieldState) {
    const connection = mongoose.createConnection(database.uri, { monitorCommands: true })
    const fieldseal = createFieldseal({
      app: 'clinic',
      tenancy: 'single',
      keyStore: mongoKeyStore(database.uri),
      keys: { cmks: [kms.cmk('cmk-1')] },
    })
    const Patient = connection.model('Patient', patientSchema(state).plugin(fieldsealPlugin, { fieldseal }), 'patients')
    await connection.asPromise()
    closing.push(
      () => fieldseal.close(),
      () => connection.close(),
    )
    deployed.config = { fieldseal, sources: [mongooseSource(connection)] }
    return Patient
  }
  const stored = async () => old.collection('patients').find().toArray()

  it('go up to envelopes and down to plaintext again', async () => {
    const Old = oldModel()
    await Old.create({ name: 'Ada', born: BORN, mail: 'Ada@example.org', ward: 'w1' })
    await deploy('plaintext')
    await expect(down()).resolves.toBeUndefined() // nothing to do
    await createMigrator(deployed.config ?? expect.unreachable()).backfill()
    const Patient = await deploy('migrating')
    await up()
    const [sealed] = await stored()
    expect(sealed).toMatchObject({ name: { sub_type: 128 }, born: { sub_type: 128 }, email: { c: { sub_type: 128 } } })
    expect(sealed).not.toHaveProperty('mail')
    expect(await Patient.findOne({ email: 'ada@EXAMPLE.org' })).toMatchObject({ name: 'Ada', email: 'Ada@example.org' })
    await expect(down()).rejects.toMatchObject({ code: 'ERR_ARGUMENT_INVALID' })
    await deploy('plaintext')
    await down()
    expect(await Old.findOne().lean()).toMatchObject({ name: 'Ada', born: BORN, mail: 'Ada@example.org', ward: 'w1' })
  })

  it('survive a build without Fieldseal that reads, saves back and inserts while they migrate', async () => {
    const Old = oldModel()
    const Patient = await deploy('migrating')
    const { _id } = await Patient.create({ name: 'Ada', born: BORN, email: 'ada@example.org', ward: 'w1' })
    const found = await Old.findById(_id)
    expect(found?.get('name')).not.toBe('Ada')
    expect([undefined, null]).toContain(found?.get('born'))
    expect(found?.get('mail')).toBeUndefined()
    found?.set('ward', 'w2')
    await found?.save({ validateBeforeSave: false })
    expect(await Patient.findById(_id)).toMatchObject({ name: 'Ada', born: BORN, email: 'ada@example.org', ward: 'w2' })
    await Old.updateOne({ _id }, { name: 'Eve', mail: 'eve@example.org' })
    expect(await Patient.findById(_id)).toMatchObject({ name: 'Eve', born: BORN, email: 'eve@example.org' })
    await Old.create({ name: 'Bob', mail: 'bob@example.org' })
    expect(await Patient.findOne({ email: 'bob@example.org' })).toMatchObject({ name: 'Bob' })
    await Old.updateOne({ _id }, { $unset: { mail: 1 } })
    expect((await Patient.findById(_id))?.email).toBe('ada@example.org') // what stood there before
    await up()
    expect(JSON.stringify(await stored())).not.toMatch(/Eve|Bob|@example/)
    expect(await Patient.findOne({ email: 'BOB@example.org' })).toMatchObject({ name: 'Bob' })
  })
})

it('has its pair of up and down in the guide', () => {
  const [, script = ''] = /```ts\n(import \{ createMigrator.*?)\n```/s.exec(readFileSync(GUIDE, 'utf8')) ?? []
  expect(script).toBe(readFileSync(SCRIPT, 'utf8').trim())
})
