import { createFieldseal, type Fieldseal } from '@fieldseal/core'
import type { FieldState, RecordSource } from '@fieldseal/core/adapter'
import { createMigrator, type Migrator, reportOf } from '@fieldseal/migrate'
import { fieldsealPlugin, mongoKeyStore, mongooseSource } from '@fieldseal/mongoose'
import { hasMongo, useMongoDatabase } from '@fieldseal/servers/vitest'
import { fakeKms } from '@fieldseal/testkit'
import mongoose, { type Connection, type Model, Schema } from 'mongoose'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'

type Doc = Record<string, unknown>

const FIELDS = ['name', 'age', 'tags.$', 'phones.$*', 'email', 'consent', 'history.$.doctor', 'secret'] as const

const schemaOf = (state: FieldState) =>
  new Schema(
    {
      _id: Number,
      clinic: { type: String, required: true },
      seq: Number,
      name: { type: String, encrypted: { state } },
      age: { type: Number, encrypted: { state } },
      tags: { type: [{ type: String, encrypted: { state } }], default: undefined },
      phones: { type: Map, of: { type: String, encrypted: { state } } },
      email: {
        type: String,
        encrypted: { state, plaintextIn: 'mail', blindIndex: { normalize: 'email', unique: true } },
      },
      consent: {
        type: new Schema({ text: String, on: Date }, { _id: false }),
        encrypted: { state, plaintextIn: 'agreed' },
      },
      history: {
        type: [
          new Schema(
            { at: Number, doctor: { type: String, encrypted: { state, plaintextIn: 'by', blindIndex: true } } },
            { _id: false },
          ),
        ],
        default: undefined,
      },
      secret: { type: String, encrypted: { state, encryptNull: true } },
    },
    { collection: 'patients', versionKey: false, encrypted: { tenantBy: 'clinic' } },
  )

/** As the build before Fieldseal stored them. */
const oldDocument = (i: number): Doc => ({
  _id: i,
  clinic: i % 2 === 0 ? 'a' : 'b',
  seq: i,
  name: `name ${i}`,
  age: i + 0.5,
  tags: ['x', 'x', `tag ${i}`],
  phones: { home: `home ${i}`, work: `work ${i}` },
  mail: `P${i}@x.org`,
  agreed: { text: `agreed ${i}`, on: new Date(i) },
  history: [{ at: 1, by: `doctor ${i}` }, { at: 2 }, { at: 3, by: 'same' }],
  ...(i % 3 === 0 ? {} : { secret: i % 3 === 1 ? `secret ${i}` : null }),
})

/** The same as applications see it. */
const asRead = (i: number): Doc => ({
  _id: i,
  clinic: i % 2 === 0 ? 'a' : 'b',
  seq: i,
  name: `name ${i}`,
  age: i + 0.5,
  tags: ['x', 'x', `tag ${i}`],
  phones: { home: `home ${i}`, work: `work ${i}` },
  email: `P${i}@x.org`,
  consent: { text: `agreed ${i}`, on: new Date(i) },
  history: [{ at: 1, doctor: `doctor ${i}` }, { at: 2 }, { at: 3, doctor: 'same' }],
})

interface App {
  readonly fieldseal: Fieldseal<'multi'>
  readonly connection: Connection
  readonly Patient: Model<Doc>
  readonly source: RecordSource
  readonly migrator: Migrator
}

class Killed extends Error {}

/** A source whose process ends at one of its durable steps: before it is done, or after. */
function killed(source: RecordSource, at: number, when: 'before' | 'after') {
  let steps = 0
  const step = async <R>(run: () => Promise<R>): Promise<R> => {
    const mine = ++steps
    if (mine > at || (mine === at && when === 'before')) throw new Killed('killed')
    const result = await run()
    if (mine === at) throw new Killed('killed')
    return result
  }
  const { checkpoints, convert } = source
  const killable: RecordSource = {
    ...source,
    convert: (map, patches) => step(async () => (await convert?.(map, patches)) ?? []),
    checkpoints: {
      load: (job) => checkpoints.load(job),
      save: (job, version, state) => step(() => checkpoints.save(job, version, state)),
    },
  }
  return { killable, steps: () => steps }
}

describe.runIf(hasMongo())('documents on their way from plaintext', () => {
  const database = useMongoDatabase()
  const kms = fakeKms()
  const apps: App[] = []
  let past: Connection
  beforeAll(async () => {
    past = await mongoose.createConnection(database.uri).asPromise()
    return () => past.close()
  })
  afterEach(async () => {
    for (const { fieldseal, connection } of apps.splice(0)) {
      await fieldseal.close()
      await connection.close()
    }
    await past.dropDatabase()
  })
  const patients = () => past.collection<Doc>('patients')
  const stored = () => patients().find().sort({ _id: 1 }).toArray()

  async function deploy(state: FieldState): Promise<App> {
    const connection = mongoose.createConnection(database.uri, { monitorCommands: true })
    const fieldseal = createFieldseal({
      app: 'clinic',
      tenancy: 'multi',
      keyStore: mongoKeyStore(database.uri),
      keys: { cmks: [kms.cmk('cmk-1')] },
    })
    const Patient = connection.model('Patient', schemaOf(state).plugin(fieldsealPlugin, { fieldseal }))
    await connection.asPromise()
    await Patient.init()
    const source = mongooseSource(connection)
    const app: App = {
      fieldseal,
      connection,
      Patient: Patient as never as Model<Doc>,
      source,
      migrator: createMigrator({ fieldseal, sources: [source] }),
    }
    apps.push(app)
    return app
  }

  async function readAll({ fieldseal, Patient }: App): Promise<Doc[]> {
    const found: Doc[] = []
    for (const clinic of ['a', 'b'])
      found.push(
        ...(await fieldseal.runAs({ tenant: clinic }, () => Patient.find({ clinic }).lean({ flattenMaps: true }))),
      )
    return found.toSorted((one, other) => Number(one['_id']) - Number(other['_id']))
  }

  async function expectReadable(app: App, count: number): Promise<void> {
    const found = await readAll(app)
    expect(found.map(({ secret: _secret, ...document }) => document)).toEqual(range(count).map(asRead))
    expect(found.map(({ secret }) => secret ?? null)).toEqual(range(count).map((i) => oldDocument(i)['secret'] ?? null))
  }
  const findBy = ({ fieldseal, Patient }: App, i: number) =>
    fieldseal.runAs({ tenant: i % 2 === 0 ? 'a' : 'b' }, () =>
      Patient.findOne({ clinic: i % 2 === 0 ? 'a' : 'b', email: `P${i}@x.org` }).lean(),
    )
  const noPlaintext = async () => {
    const text = mongoose.mongo.BSON.EJSON.stringify(await stored())
    for (const word of ['name ', 'tag ', 'home ', '@x.org', 'agreed ', 'doctor ', 'same', 'secret '])
      expect(text).not.toContain(word)
  }

  it('go there and back: every deploy reads all, each verb ends what its state allows', async () => {
    await patients().insertMany(range(12).map(oldDocument) as never)
    const plaintext = await deploy('plaintext')
    await expectReadable(plaintext, 12)
    const tokens = await plaintext.migrator.backfill({ batchSize: 5 })
    expect(tokens).toMatchObject({ remaining: 0, models: [{ rows: 12, updated: 12 }] })
    expect(await stored()).toMatchObject(range(12).map(oldDocument))
    await expectReadable(plaintext, 12)

    const migrating = await deploy('migrating')
    await expectReadable(migrating, 12)
    for (const i of range(12)) expect(await findBy(migrating, i)).toMatchObject({ _id: i })
    expect((await migrating.migrator.backfill({ dryRun: true })).models).toMatchObject([{ rows: 12 }])
    expect((await stored())[0]).toMatchObject({ name: 'name 0' })
    const sealed = await migrating.migrator.backfill({ batchSize: 5 })
    expect(sealed).toMatchObject({ remaining: 0, models: [{ rows: 12, updated: 12 }] })
    await noPlaintext()
    for (const app of [plaintext, migrating]) await expectReadable(app, 12)
    for (const i of range(12)) expect(await findBy(migrating, i)).toMatchObject({ _id: i })

    const encrypted = await deploy('encrypted')
    await expectReadable(encrypted, 12)
    for (const field of FIELDS)
      expect(await encrypted.migrator.backfill({ model: 'patients', field })).toMatchObject({ remaining: 0 })
    expect(await encrypted.migrator.verify()).toMatchObject({ remaining: 0 })
    const [aField] = FIELDS
    await expect(encrypted.migrator.decrypt({ model: 'patients', field: aField })).rejects.toMatchObject({
      code: 'ERR_ARGUMENT_INVALID',
    })
    for (const field of FIELDS) await plaintext.migrator.decrypt({ model: 'patients', field, batchSize: 5 })
    await expectReadable(plaintext, 12)
    const back = await stored()
    for (const [i, document] of back.entries()) {
      const { _id: _same, secret, ...content } = oldDocument(i)
      expect(document).toMatchObject({ ...content, ...(secret === null || secret === undefined ? {} : { secret }) })
      expect(Object.keys(document)).not.toContain('consent')
    }
    // Without Fieldseal, nothing is missed but what was added.
    expect(await patients().countDocuments({ name: { $type: 'binData' } })).toBe(0)
  })

  it('lose tokens that a build without Fieldseal has left without their value, so that all can be read afterwards', async () => {
    await patients().insertMany(range(6).map(oldDocument) as never)
    const takeAway = (_id: number) => patients().updateOne({ _id } as never, { $unset: { mail: 1, 'history.0.by': 1 } })
    const left = async (_id: number) => {
      const { email, history } = (await stored())[_id] as Doc
      return [email, (history as Doc[])[0]?.['doctor']]
    }
    const plaintext = await deploy('plaintext')
    await plaintext.migrator.backfill()
    await takeAway(1)
    expect(await left(1)).toEqual([{ b: expect.anything() }, { b: expect.anything() }])
    expect(await findBy(plaintext, 1)).toBeNull()
    expect((await plaintext.migrator.backfill()).models).toMatchObject([{ updated: 1 }])
    expect(await left(1)).toEqual([undefined, undefined])

    await takeAway(2)
    const migrating = await deploy('migrating')
    expect(await findBy(migrating, 2)).toBeNull()
    expect(await migrating.migrator.backfill()).toMatchObject({ remaining: 0 })
    expect(await left(2)).toEqual([undefined, undefined])
    expect(await migrating.migrator.verify()).toMatchObject({ remaining: 0 })
    const encrypted = await deploy('encrypted')
    const found = await readAll(encrypted)
    expect(found.map(({ email }) => email)).toEqual(
      range(6).map((i) => (i === 1 || i === 2 ? undefined : `P${i}@x.org`)),
    )
    expect(await encrypted.migrator.verify()).toMatchObject({ remaining: 0 })
  })

  it('list what stands in the way, and are encrypted but for those', async () => {
    const { Long } = mongoose.mongo
    const documents = range(6).map(oldDocument)
    Object.assign(documents[1] as Doc, { age: Long.fromString('9007199254740993') })
    Object.assign(documents[2] as Doc, { name: { not: 'a text' } })
    Object.assign(documents[4] as Doc, { mail: 'p0@X.ORG', agreed: undefined }) // as document 0, once normalised
    await patients().insertMany(documents as never)
    const plaintext = await deploy('plaintext')
    const tokens = await plaintext.migrator.backfill().catch((error: unknown) => reportOf(error))
    expect(tokens?.remaining).toBeGreaterThan(0)
    const migrating = await deploy('migrating')
    const report = await migrating.migrator.backfill().catch((error: unknown) => reportOf(error))
    expect(report?.remaining).toBe(3)
    const kept = await stored()
    expect(String(kept[1]?.['age'])).toBe('9007199254740993')
    expect(kept[2]).toHaveProperty('name', { not: 'a text' })
    const failures = report?.models[0]?.failures ?? []
    const [collided = -1] = failures.filter(({ field }) => field === '*').map(({ key }) => Number(key))
    expect([0, 4]).toContain(collided) // of two equal ones, whichever came first has the token
    const listed = failures.map(({ key, field, code }) => [Number(key), field, code] as const)
    expect(listed.toSorted(([one], [other]) => one - other)).toEqual(
      [
        [1, 'age', 'ERR_VALUE_INVALID'],
        [2, 'name', 'ERR_VALUE_INVALID'],
        [collided, '*', 'ERR_INDEX_COLLISION'],
      ].toSorted(([one], [other]) => Number(one) - Number(other)),
    )
    const keys = listed.map(([key]) => key).toSorted((one, other) => one - other)
    expect(kept.filter(({ mail }) => mail !== undefined).map(({ _id }) => _id)).toEqual(keys)
    expect(await migrating.migrator.backfill().catch((error: unknown) => reportOf(error)?.remaining)).toBe(3)
  })

  it.each([
    ['backfill of tokens', 'plaintext'],
    ['backfill', 'migrating'],
    ['decrypt', 'plaintext'],
  ] as const)(
    '%s converges when it is killed between any two of its durable steps, and every value is readable meanwhile',
    async (verb, state) => {
      const app = await deploy(state)
      const sealing = verb === 'decrypt' ? await deploy('migrating') : undefined
      const run = async ({ migrator }: { readonly migrator: Migrator }) => {
        if (verb !== 'decrypt') return migrator.backfill({ batchSize: 2, concurrency: 1 })
        return migrator.decrypt({ model: 'patients', field: 'email', batchSize: 2, concurrency: 1 })
      }
      for (let at = 1, isDone = false; !isDone; at++)
        for (const when of ['before', 'after'] as const) {
          await patients().deleteMany({})
          await past.collection('fieldseal_checkpoints').deleteMany({})
          await patients().insertMany(range(5).map(oldDocument) as never)
          await sealing?.migrator.backfill()
          const { killable, steps } = killed(app.source, at, when)
          const migrator = createMigrator({ fieldseal: app.fieldseal, sources: [killable] })
          const outcome = await run({ migrator }).then(
            () => 'done' as const,
            (error: unknown) => error,
          )
          await expectReadable(app, 5)
          isDone = outcome === 'done' && steps() < at
          if (!isDone && when === 'before') expect(outcome).not.toBe('done')
          await run(app)
          await expectReadable(app, 5)
          const documents = await stored()
          if (verb === 'backfill') await noPlaintext()
          else for (const [i, document] of documents.entries()) expect(document['mail']).toBe(`P${i}@x.org`)
          if (verb === 'backfill of tokens')
            for (const { email } of documents) expect(email).toEqual({ b: expect.anything() })
          if (verb === 'backfill') expect(await app.migrator.verify()).toMatchObject({ remaining: 0 })
        }
    },
    120_000,
  )

  it('lose no update of eight writers beside a backfill, two of them without Fieldseal', async () => {
    const COUNT = 60
    await patients().insertMany(range(COUNT).map(oldDocument) as never)
    await (await deploy('plaintext')).migrator.backfill()
    const app = await deploy('migrating')
    let isOver = false
    let written = 0
    const valueOf = (i: number, seq: number) => `v${seq}-${i}@x.org`
    async function write(writer: number): Promise<void> {
      while (!isOver) {
        const i = Math.floor(Math.random() * COUNT)
        const clinic = i % 2 === 0 ? 'a' : 'b'
        const found = await patients().findOne({ _id: i as never }, { projection: { seq: 1 } })
        const seq = Number(found?.['seq'])
        const email = valueOf(i, seq + 1)
        const criteria = { _id: i, clinic, seq }
        const change = { seq: seq + 1, name: `name ${seq + 1}` }
        const { modifiedCount } =
          writer < 2
            ? await patients().updateOne(criteria as never, { $set: { ...change, mail: email } })
            : await app.fieldseal.runAs({ tenant: clinic }, () =>
                app.Patient.updateOne(criteria, { $set: { ...change, email, 'history.2.doctor': email } }),
              )
        written += modifiedCount
      }
    }
    const writers = range(8).map(write)
    const backfill = () => app.migrator.backfill({ batchSize: 7 }).catch((error: unknown) => reportOf(error))
    const until = Date.now() + Number(process.env['FIELDSEAL_SOAK_MS'] ?? 5_000)
    while (Date.now() < until) await backfill()
    isOver = true
    await Promise.all(writers)
    expect(written).toBeGreaterThan(COUNT)
    expect(await app.migrator.backfill()).toMatchObject({ remaining: 0 })
    await noPlaintext()
    expect(await app.migrator.verify()).toMatchObject({ remaining: 0 })
    const documents = await readAll(app)
    expect(documents).toHaveLength(COUNT)
    for (const { _id, seq, email, name } of documents) {
      if (seq === _id) continue
      expect(email).toBe(valueOf(Number(_id), Number(seq)))
      expect(name).toBe(`name ${String(seq)}`)
    }
    expect(documents.reduce((sum, { _id, seq }) => sum + Number(seq) - Number(_id), 0)).toBe(written)
  }, 180_000)
})

function range(count: number): number[] {
  return Array.from({ length: count }, (_unused, i) => i)
}
