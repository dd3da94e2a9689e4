import { hasMongo } from '@fieldseal/servers/vitest'
import mongoose, { Schema } from 'mongoose'
import { afterEach, describe, expect, it } from 'vitest'
import { useClinic, type LooseModel } from './support/clinic.ts'
import { protects, refuses } from './support/operation.ts'
import { twinsOf, usePlainConnection, type Sealing } from './support/twin.ts'

const WRITES = ['insert', 'update', 'delete', 'findAndModify', 'bulkWrite']

describe.runIf(hasMongo())('save', () => {
  const clinic = useClinic({ tenancy: 'single' })
  const plain = usePlainConnection()
  const define = (seal: Sealing, options: Record<string, unknown> = {}) =>
    new Schema(
      {
        name: { type: String, ...seal() },
        email: { type: String, ...seal({ blindIndex: { normalize: 'email', unique: true } }) },
        age: { type: Number, ...seal() },
        address: { street: { type: String, ...seal() }, city: String },
        visits: [{ note: { type: String, ...seal() }, at: Date }],
        phones: { type: Map, of: { type: String, ...seal() } },
        tags: { type: [String], ...seal() },
        consent: { type: new Schema({ text: String, given: Date }, { _id: false }), ...seal() },
        chart: { type: Schema.Types.Mixed, ...seal() },
        ward: String,
      } as never,
      options,
    )
  const patients = (options?: Record<string, unknown>): LooseModel =>
    clinic.model(define((encrypted = true) => ({ encrypted }), options))
  const document = () => ({
    name: clinic.secret('Grace Hopper'),
    email: clinic.secret('grace@save.example'),
    age: 42,
    address: { street: clinic.secret('Save Street 1'), city: 'London' },
    visits: [{ note: clinic.secret('first save note') }, { note: clinic.secret('second save note') }],
    phones: { work: clinic.secret('555-save') },
    tags: [clinic.secret('save tag')],
    consent: { text: clinic.secret('save consent'), given: new Date(1) },
    chart: { deep: { text: clinic.secret('save chart') } },
    ward: 'north',
  })
  const storedOf = async (model: LooseModel) => (await clinic.stored(model))[0] as Record<string, readonly unknown[]>
  /** Commands that change something, sent while `run` runs. */
  async function writesOf(run: () => Promise<unknown>): Promise<readonly string[]> {
    const names: string[] = []
    const listen = ({ commandName }: { readonly commandName: string }) => {
      if (WRITES.includes(commandName)) names.push(commandName)
    }
    const client = clinic.connection.getClient()
    client.on('commandStarted', listen)
    await run().finally(() => client.off('commandStarted', listen))
    return names
  }

  protects('save', 'a loaded document that nobody changed sends no write', async () => {
    const Patient = patients({ timestamps: true })
    await Patient.create(document())
    const before = await storedOf(Patient)
    const found = await Patient.findOne()
    expect(found.isModified()).toBe(false)
    expect(await writesOf(() => found.save())).toEqual([])
    for (const path of ['name', 'age', 'tags', 'consent', 'chart']) {
      found.set(path, found.toObject()[path])
      expect(found.isModified(path), path).toBe(false)
    }
    expect(await storedOf(Patient)).toEqual(before)
  })

  protects('save', 'an unchanged encrypted value keeps its bytes when a neighbour changes', async () => {
    const Patient = patients()
    await Patient.create(document())
    const before = await storedOf(Patient)
    const found = await Patient.findOne()
    found.name = clinic.secret('Grace Murray Hopper')
    found.visits[1].note = clinic.secret('second save note, changed')
    found.ward = 'south'
    await found.save()
    const after = await storedOf(Patient)
    for (const path of ['email', 'age', 'address', 'phones', 'tags', 'consent', 'chart'])
      expect(after[path], path).toEqual(before[path])
    expect(after['visits']?.[0]).toEqual(before['visits']?.[0])
    expect(after['name']).not.toEqual(before['name'])
    expect(after['visits']?.[1]).not.toEqual(before['visits']?.[1])
    expect(found.name).toBe('Grace Murray Hopper')
  })

  /** One change of a loaded document, done to an encrypted and to a plain one. */
  const changes: readonly [string, (found: never) => void][] = [
    ['a scalar', (found: { name: string }) => void (found.name = clinic.secret('changed scalar'))],
    ['a value taken away', (found: { name?: string | undefined }) => void (found.name = undefined)],
    ['null', (found: { name: string | null }) => void (found.name = null)],
    ['the empty string', (found: { name: string }) => void (found.name = '')],
    [
      'a nested path',
      (found: { address: { street: string } }) => void (found.address.street = clinic.secret('changed street')),
    ],
    [
      'a nested object',
      (found: { address: object }) => void (found.address = { street: clinic.secret('whole street'), city: 'Paris' }),
    ],
    [
      'an element by its index',
      (found: { set(path: string, value: unknown): void }) =>
        found.set('visits.1.note', clinic.secret('changed by index')),
    ],
    [
      'elements added',
      (found: { visits: unknown[] }) => void found.visits.push({ note: clinic.secret('pushed note') }, {}),
    ],
    [
      'elements put before',
      (found: { visits: unknown[] }) => void found.visits.unshift({ note: clinic.secret('unshifted note') }),
    ],
    [
      'elements spliced',
      (found: { visits: unknown[] }) => void found.visits.splice(0, 1, { note: clinic.secret('spliced note') }),
    ],
    [
      'an element pulled by its _id',
      (found: { visits: { pull(id: unknown): void } & { _id: unknown }[] }) => found.visits.pull(found.visits[0]?._id),
    ],
    ['elements sorted', (found: { visits: unknown[] }) => void found.visits.sort(() => -1)],
    ['the last element taken off', (found: { visits: { pop(): void } }) => found.visits.pop()],
    ['the first element taken off', (found: { visits: { shift(): void } }) => found.visits.shift()],
    [
      'elements replaced',
      (found: { visits: unknown[] }) => void (found.visits = [{ note: clinic.secret('replaced note') }]),
    ],
    ['elements emptied', (found: { visits: unknown[] }) => void (found.visits = [])],
    [
      'a Map entry',
      (found: { phones: Map<string, string> }) => void found.phones.set('work', clinic.secret('changed phone')),
    ],
    [
      'a Map entry added',
      (found: { phones: Map<string, string> }) => void found.phones.set('home', clinic.secret('added phone')),
    ],
    ['a Map entry removed', (found: { phones: Map<string, string> }) => void found.phones.delete('work')],
    ['a Map replaced', (found: { phones: unknown }) => void (found.phones = { other: clinic.secret('other phone') })],
    [
      'a whole array pushed to',
      (found: { tags: string[] }) => void found.tags.push(clinic.secret('pushed tag'), clinic.secret('another tag')),
    ],
    ['a whole array pulled from', (found: { tags: { pull(tag: string): void } }) => found.tags.pull('save tag')],
    ['a whole array, an element set', (found: { tags: string[] }) => void (found.tags[0] = clinic.secret('set tag'))],
    [
      'a whole array added to as a set',
      (found: { tags: { addToSet(...tags: string[]): void } }) =>
        found.tags.addToSet('save tag', clinic.secret('set member')),
    ],
    ['a whole array replaced', (found: { tags: string[] }) => void (found.tags = [clinic.secret('replaced tag')])],
    [
      'a whole subdocument, one leaf',
      (found: { consent: { text: string } }) => void (found.consent.text = clinic.secret('changed consent')),
    ],
    [
      'a whole subdocument, one leaf away',
      (found: { consent: { text?: string | undefined } }) => void (found.consent.text = undefined),
    ],
    [
      'a whole subdocument replaced',
      (found: { consent: object }) => void (found.consent = { text: clinic.secret('new consent') }),
    ],
    ['a whole subdocument away', (found: { consent: object | undefined }) => void (found.consent = undefined)],
    [
      'Mixed, a path inside',
      (found: { set(path: string, value: unknown): void }) => found.set('chart.deep.more', clinic.secret('more chart')),
    ],
    [
      'Mixed, marked modified',
      (found: { chart: { deep: { text: string } }; markModified(path: string): void }) => {
        found.chart.deep.text = clinic.secret('marked chart')
        found.markModified('chart')
      },
    ],
    ['a counter', (found: { $inc(path: string, by: number): void }) => found.$inc('age', 3)],
    [
      'several at once',
      (found: { name: string; age: number; tags: string[]; ward: string; consent: { text: string } }) => {
        found.name = clinic.secret('several name')
        found.age++
        found.tags.push(clinic.secret('several tag'))
        found.ward = 'west'
        found.consent.text = clinic.secret('several consent')
      },
    ],
  ]
  for (const [what, change] of changes)
    it(`writes ${what} as a plain schema does, and the document in memory keeps plaintext`, async () => {
      const twins = twinsOf(clinic, plain, define)
      const _id = new mongoose.Types.ObjectId()
      const visits = document().visits.map((visit) => ({ ...visit, _id: new mongoose.Types.ObjectId() }))
      const [ours, theirs] = await twins.both(async (model) => {
        await model.create({ _id, ...document(), visits })
        const found = await model.findById(_id)
        change(found as never)
        await found.save()
        expect(found.isModified()).toBe(false)
        return {
          memory: withoutNewIds(found.toObject(), visits),
          stored: withoutNewIds(await model.findById(_id).lean(), visits),
        }
      })
      expect(ours).toEqual(theirs)
    })

  protects('save', 'without middleware and without validation a change is sealed as well', async () => {
    const Patient = patients()
    const saved = await Patient.create(document())
    saved.name = clinic.secret('name past middleware')
    saved.tags.push(clinic.secret('tag past middleware'))
    await saved.save({ middleware: false, validateBeforeSave: false } as never)
    expect(await Patient.findById(saved._id).lean()).toMatchObject({ name: 'name past middleware' })
  })

  protects('save', 'a document loaded in part writes what changed of it and keeps the rest', async () => {
    const Patient = patients()
    const { _id } = await Patient.create(document())
    const before = await storedOf(Patient)
    const found = await Patient.findById(_id).select('name tags')
    found.name = clinic.secret('name of a part')
    found.tags.push(clinic.secret('tag of a part'))
    await found.save()
    const after = await storedOf(Patient)
    for (const path of ['email', 'consent', 'chart', 'address']) expect(after[path], path).toEqual(before[path])
    expect(await Patient.findById(_id).lean()).toMatchObject({
      name: 'name of a part',
      tags: ['save tag', 'tag of a part'],
    })
  })

  protects('save', 'pathsToSave writes those paths and leaves the others changed', async () => {
    const Patient = patients()
    const saved = await Patient.create(document())
    saved.name = clinic.secret('name to save')
    saved.consent.text = clinic.secret('consent not to save')
    await saved.save({ pathsToSave: ['name'] })
    expect(await Patient.findById(saved._id).lean()).toMatchObject({
      name: 'name to save',
      consent: { text: 'save consent' },
    })
  })

  protects('save', 'timestamps and version are those of Mongoose, touched by nothing else', async () => {
    const Patient = patients({ timestamps: true })
    const saved = await Patient.create(document())
    const { updatedAt, __v } = saved
    await Patient.findById(saved._id)
    await clinic.fieldseal.flush()
    expect(await Patient.findById(saved._id).lean()).toMatchObject({ updatedAt, __v })
    saved.tags.push(clinic.secret('tag of a later time'))
    await saved.save()
    expect(saved.updatedAt.getTime()).toBeGreaterThanOrEqual(updatedAt.getTime())
    expect((await Patient.findById(saved._id).lean()).updatedAt).toEqual(saved.updatedAt)
  })

  protects(
    'save',
    'an array that somebody else has changed is a VersionError, encrypted as a whole or by elements',
    async () => {
      const Patient = patients()
      const { _id } = await Patient.create(document())
      for (const change of [
        (found: { visits: { note: string }[] }) => void (found.visits[1] = { note: clinic.secret('late note') }),
        (found: { tags: string[] }) => void (found.tags[0] = clinic.secret('late tag')),
      ]) {
        const [one, other] = [await Patient.findById(_id), await Patient.findById(_id)]
        one.visits = [{ note: clinic.secret('early note') }, { note: clinic.secret('early second note') }]
        one.tags = [clinic.secret('early tag')]
        await one.save()
        change(other)
        await expect(other.save()).rejects.toMatchObject({ name: 'VersionError' })
        expect(await Patient.findById(_id).lean()).toMatchObject({ tags: ['early tag'] })
      }
    },
  )

  for (const optimisticConcurrency of [true, ['name', 'tags'], { exclude: ['ward'] }] as const)
    protects('save', 'optimistic concurrency lets the first of two changes win', async () => {
      const Patient = patients({ optimisticConcurrency })
      const { _id } = await Patient.create(document())
      for (const [path, values] of [
        ['name', ['first name', 'second name']],
        ['tags', [['first tag'], ['second tag']]],
      ] as const) {
        const [one, other] = [await Patient.findById(_id), await Patient.findById(_id)]
        one.set(path, values[0])
        other.set(path, values[1])
        await one.save()
        await expect(other.save()).rejects.toMatchObject({ name: 'VersionError' })
        expect(other.isModified(path)).toBe(true)
        expect((await Patient.findById(_id).lean())[path]).toEqual(values[0])
      }
    })

  protects('save', 'a document that is gone is a DocumentNotFoundError without its values', async () => {
    const Patient = patients()
    for (const change of [
      (found: { name: string }) => void (found.name = clinic.secret('name of the gone')),
      (found: { consent: { text: string } }) => void (found.consent.text = clinic.secret('consent of the gone')),
    ]) {
      const saved = await Patient.create({ ...document(), email: undefined })
      await Patient.deleteOne({ _id: saved._id })
      saved.$where = { email: clinic.secret('where@save.example') }
      change(saved)
      const error: unknown = await saved.save().catch((thrown: unknown) => thrown)
      expect(error).toMatchObject({ name: 'DocumentNotFoundError' })
      expect(`${String(error)} ${JSON.stringify(error)}`).not.toMatch(/gone|where@/)
      expect(saved.isModified()).toBe(true)
    }
  })

  protects('save', '$where on the document may ask for an encrypted path', async () => {
    const Patient = patients()
    const saved = await Patient.create(document())
    saved.$where = { email: 'GRACE@save.example' }
    saved.age = 43
    saved.consent.text = clinic.secret('consent where')
    await saved.save()
    expect(await Patient.findById(saved._id).lean()).toMatchObject({ age: 43, consent: { text: 'consent where' } })
  })

  protects(
    'save',
    'two saves of one document at a time are refused by Mongoose, and the first is written',
    async () => {
      const Patient = patients()
      const saved = await Patient.create(document())
      saved.name = clinic.secret('name in parallel')
      const first = saved.save()
      await expect(saved.save()).rejects.toMatchObject({ name: 'ParallelSaveError' })
      await first
      expect((await Patient.findById(saved._id)).name).toBe('name in parallel')
    },
  )

  protects(
    'save',
    'a value that is taken is an error that names the path, and the document stays as changed',
    async () => {
      const Patient = patients()
      await Patient.init()
      await Patient.create(document())
      const other = await Patient.create({ ...document(), email: clinic.secret('other@save.example') })
      other.email = 'Grace@save.example '
      clinic.secret('Grace@save.example')
      const error: unknown = await other.save().catch((thrown: unknown) => thrown)
      expect(error).toMatchObject({ code: 11000, keyPattern: { email: 1 } })
      expect(`${String(error)} ${JSON.stringify(error)}`).not.toMatch(/save\.example/i)
      expect(other.isModified('email')).toBe(true)
      const fresh = new Patient(document())
      await expect(fresh.save()).rejects.toMatchObject({ code: 11000 })
      expect(fresh.isNew).toBe(true)
      fresh.email = clinic.secret('fresh@save.example')
      await fresh.save()
      expect((await Patient.findOne({ email: 'fresh@save.example' }))._id).toEqual(fresh._id)
    },
  )

  function withoutNewIds(value: unknown, known: readonly { readonly _id: unknown }[]): Record<string, unknown> {
    const ids = known.map(({ _id }) => String(_id))
    return JSON.parse(
      JSON.stringify(value, (key, each: unknown) => (key === '_id' && !ids.includes(String(each)) ? 'new' : each)),
    ) as Record<string, unknown>
  }
})

describe.runIf(hasMongo())('save while the KMS does not answer', () => {
  const clinic = useClinic({ tenancy: 'multi' })
  const patients = () =>
    clinic.model(
      new Schema(
        {
          clinicId: String,
          name: { type: String, encrypted: true },
          tags: { type: [String], encrypted: true },
          visits: [{ note: { type: String, encrypted: true } }],
          ward: String,
        },
        { encrypted: { tenantBy: 'clinicId' } },
      ),
    )
  let tenants = 0
  afterEach(() => {
    clinic.kms.latencyMs = 0
    clinic.kms.restore()
  })
  const asTenant = <R>(run: (tenant: string) => Promise<R>): Promise<R> => {
    const tenant = `tenant-${++tenants}`
    return clinic.fieldseal.runAs({ tenant }, () => run(tenant))
  }

  protects('save', 'a new document rejects, stays new and is saved once the KMS answers', () =>
    asTenant(async (clinicId) => {
      const Patient = patients()
      const document = new Patient({
        clinicId,
        name: clinic.secret('saved at last'),
        visits: [{ note: clinic.secret('visited at last') }],
      })
      clinic.kms.disconnect()
      await expect(document.save()).rejects.toMatchObject({ kind: 'unavailable' })
      expect(document.isNew).toBe(true)
      expect(document.visits[0].isNew).toBe(true)
      expect(await clinic.stored(Patient)).toEqual([])
      clinic.kms.restore()
      clinic.fieldseal.purge(clinicId)
      await document.save()
      expect(document.isNew).toBe(false)
      expect((await Patient.findOne({ clinicId })).name).toBe('saved at last')
    }),
  )

  protects('save', 'a changed document rejects, stays changed and is saved once the KMS answers', () =>
    asTenant(async (clinicId) => {
      const Patient = patients()
      const document = await Patient.create({
        clinicId,
        name: clinic.secret('before the outage'),
        tags: [clinic.secret('tag before')],
      })
      document.name = clinic.secret('during the outage')
      document.tags.push(clinic.secret('tag during'))
      document.visits.push({ note: clinic.secret('visit during') })
      clinic.kms.deny('test-key')
      clinic.fieldseal.purge(clinicId)
      await expect(document.save()).rejects.toMatchObject({ kind: 'denied' })
      expect(document.modifiedPaths()).toEqual(expect.arrayContaining(['name', 'tags', 'visits']))
      clinic.kms.restore()
      clinic.fieldseal.purge(clinicId)
      expect((await Patient.findOne({ clinicId })).name).toBe('before the outage')
      await document.save()
      expect(await Patient.findOne({ clinicId }).lean()).toMatchObject({
        name: 'during the outage',
        tags: ['tag before', 'tag during'],
        visits: [{ note: 'visit during' }],
      })
    }),
  )

  protects('insertMany', 'nothing is inserted, and the documents stay new', () =>
    asTenant(async (clinicId) => {
      const Patient = patients()
      const documents = ['first of many', 'second of many'].map(
        (name) => new Patient({ clinicId, name: clinic.secret(name) }),
      )
      clinic.kms.disconnect()
      for (const ordered of [true, false])
        await expect(Patient.insertMany(documents, { ordered })).rejects.toMatchObject({ kind: 'unavailable' })
      await expect(Patient.bulkSave(documents)).rejects.toMatchObject({ kind: 'unavailable' })
      expect(documents.map(({ isNew }) => isNew)).toEqual([true, true])
      expect(await clinic.stored(Patient)).toEqual([])
      clinic.kms.restore()
      clinic.fieldseal.purge(clinicId)
      await Patient.insertMany(documents)
      expect(await Patient.countDocuments({ clinicId })).toBe(2)
    }),
  )

  protects('save', 'a slow KMS delays the documents that wait for it and no others', () =>
    asTenant(async (clinicId) => {
      const Patient = patients()
      const Plain = clinic.model(new Schema({ ward: String }))
      await Plain.create({ ward: 'north' })
      clinic.kms.latencyMs = 1000
      let answered = false
      const slow = Promise.all(
        Array.from({ length: 20 }, (_, at) => Patient.create({ clinicId, name: clinic.secret(`slow ${at} of all`) })),
      ).finally(() => {
        answered = true
      })
      await Plain.findOne()
      expect(answered).toBe(false)
      expect(await slow).toHaveLength(20)
      expect(await Patient.countDocuments({ clinicId })).toBe(20)
    }),
  )

  protects('save', 'a loaded document of a tenant that nobody changed sends no write', () =>
    asTenant(async (clinicId) => {
      const Patient = patients()
      await Patient.create({ clinicId, name: clinic.secret('unchanged of a tenant') })
      const found = await Patient.findOne({ clinicId })
      await found.save()
      expect(found.name).toBe('unchanged of a tenant')
    }),
  )

  refuses('save', 'a document given to another tenant', { code: 'ERR_TENANT_MISMATCH' }, () =>
    asTenant(async (clinicId) => {
      const Patient = patients()
      const own = await Patient.create({ clinicId, name: clinic.secret('of one tenant') })
      own.clinicId = 'tenant-of-others'
      own.name = clinic.secret('moved to another')
      await own.save()
    }),
  )

  refuses('save', 'a new document of another tenant', { code: 'ERR_TENANT_MISMATCH' }, () =>
    asTenant(async () => {
      await patients().create({ clinicId: 'tenant-of-others', name: clinic.secret('new of another') })
    }),
  )

  refuses('save', 'a new document of no tenant', { code: 'ERR_WRITE_UNSUPPORTED', reason: 'tenant-unknown' }, () =>
    asTenant(async () => {
      await patients().create({ name: clinic.secret('new of nobody') })
    }),
  )
})
