import { hasMongo } from '@fieldseal/servers/vitest'
import { Schema, Types } from 'mongoose'
import { describe, expect, it } from 'vitest'
import { useClinic } from './support/clinic.ts'
import { protects, refuses } from './support/operation.ts'
import { usePatients } from './support/patients.ts'

describe.runIf(hasMongo())('tenants', () => {
  const clinic = useClinic({ tenancy: 'multi' })
  const patients = usePatients(clinic)
  const { aId, bId, as, system, storedOf } = patients

  const mismatch = { code: 'ERR_TENANT_MISMATCH' }

  it('without a tenant every write rejects, and nothing is sent', async () => {
    const missing = { code: 'ERR_TENANT_MISSING', kind: 'misuse' }
    const before = await clinic.stored(patients.Patient)
    for (const write of [
      () => patients.Patient.create({ clinicId: 'a', email: 'x@x.org' }),
      () => patients.Patient.updateOne({ _id: aId }, { plan: 'x' }),
      () => patients.Patient.updateMany({}, { plan: 'x' }),
      () => patients.Patient.findOneAndUpdate({ _id: aId }, { ssn: 'x' }),
      () => patients.Patient.findOneAndReplace({ _id: aId }, { clinicId: 'a' }),
      () => patients.Patient.findOneAndDelete({ _id: aId }),
      () => patients.Patient.replaceOne({ _id: aId }, { clinicId: 'a' }),
      () => patients.Patient.deleteOne({ _id: aId }),
      () => patients.Patient.deleteMany({}),
      () => patients.Patient.bulkWrite([{ deleteMany: { filter: {} } }]),
    ])
      await expect((async () => write())()).rejects.toMatchObject(missing)
    expect(await clinic.stored(patients.Patient)).toEqual(before)
  })

  protects('updateMany', 'of a tenant never meets a document of another', async () => {
    const before = await storedOf('b')
    await as('a', () =>
      patients.Patient.updateMany({ plan: 'basic' }, { ssn: clinic.secret('ssn-many'), plan: 'gold' }),
    )
    await as('a', () => patients.Patient.updateMany({ clinicId: { $in: ['a', 'b'] } }, { ssn: 'two' }))
    await as('a', () =>
      patients.Patient.updateMany({ $or: [{ clinicId: 'b' }, { plan: 'basic' }] }, { $set: { ssn: 'or' } }),
    )
    await as('a', () => patients.native.updateMany({}, { $unset: { ssn: 1 } }))
    await as('a', () => patients.native.updateMany({}, [{ $set: { plan: 'piped' } }]))
    expect(await storedOf('b')).toEqual(before)
    expect(await as('a', () => patients.Patient.findById(aId).lean())).toMatchObject({
      plan: 'piped',
      email: 'a@example.org',
    })
  })

  protects('updateOne', 'by the _id of another tenant meets nothing, whatever it does', async () => {
    const before = await storedOf('b')
    for (const update of [
      { plan: 'x' },
      { ssn: 'x' },
      { $inc: { age: 1 } },
      { $addToSet: { tags: 'x' } },
      { $unset: { ssn: 1 } },
      { $push: { tags: 'x' } },
    ]) {
      expect(await as('a', () => patients.Patient.updateOne({ _id: bId }, update))).toMatchObject({ matchedCount: 0 })
      expect(await as('a', () => patients.Patient.findOneAndUpdate({ _id: bId }, update))).toBeNull()
    }
    expect(await as('a', () => patients.Patient.updateOne({ tags: 'tag-b' }, { ssn: 'x' }))).toMatchObject({
      matchedCount: 0,
    })
    expect(await as('a', () => patients.Patient.updateOne({ email: 'b@example.org' }, { ssn: 'x' }))).toMatchObject({
      matchedCount: 0,
    })
    expect(await storedOf('b')).toEqual(before)
  })

  protects('updateOne', 'without _id meets the own document, also where another tenant has one like it', async () => {
    await as('a', () => patients.Patient.updateOne({ plan: 'basic' }, { $inc: { age: 1 } }))
    await as('b', () => patients.Patient.updateOne({ plan: 'basic' }, { $inc: { age: 10 } }))
    expect(await system(() => patients.Patient.find({}).sort('clinicId').lean())).toMatchObject([
      { age: 2 },
      { age: 11 },
    ])
  })

  protects('updateOne upsert', 'makes a document of the own tenant', async () => {
    await as('a', () =>
      patients.Patient.updateOne({ email: 'b@example.org' }, { ssn: clinic.secret('ssn-upserted') }, { upsert: true }),
    )
    await as('a', () =>
      patients.Patient.updateOne({ email: 'b@example.org' }, { $inc: { visits: 1 } }, { upsert: true }),
    )
    await as('a', () =>
      patients.Patient.updateOne(
        { clinicId: 'a', email: clinic.secret('named@x.org') },
        { plan: 'named' },
        { upsert: true },
      ),
    )
    expect(await as('a', () => patients.Patient.findOne({ email: 'b@example.org' }).lean())).toMatchObject({
      clinicId: 'a',
      ssn: 'ssn-upserted',
      visits: 1,
    })
    expect(await as('a', () => patients.Patient.findOne({ email: 'named@x.org' }).lean())).toMatchObject({
      clinicId: 'a',
      plan: 'named',
    })
    expect(await as('b', () => patients.Patient.findById(bId).lean())).toMatchObject({ ssn: 'ssn-of-b' })
  })

  protects(
    'updateOne upsert',
    'with the _id of another tenant is an error of the server, and changes nothing',
    async () => {
      const before = await storedOf('b')
      await expect(
        as('a', () => patients.Patient.updateOne({ _id: bId }, { ssn: 'x' }, { upsert: true })),
      ).rejects.toMatchObject({ code: 11000 })
      await expect(
        as('a', () => patients.Patient.replaceOne({ _id: bId }, { clinicId: 'a', ssn: 'x' }, { upsert: true })),
      ).rejects.toMatchObject({ code: 11000 })
      expect(await storedOf('b')).toEqual(before)
    },
  )

  protects('replaceOne', 'never replaces a document of another tenant', async () => {
    const before = await storedOf('b')
    expect(await as('a', () => patients.Patient.replaceOne({ _id: bId }, { clinicId: 'a', ssn: 'x' }))).toMatchObject({
      matchedCount: 0,
    })
    expect(
      await as('a', () =>
        patients.Patient.findOneAndReplace({ plan: { $in: ['basic'] }, email: 'b@example.org' }, { clinicId: 'a' }),
      ),
    ).toBeNull()
    await as('a', () =>
      patients.Patient.replaceOne({ plan: 'basic' }, { clinicId: 'a', ssn: clinic.secret('ssn-replaced') }),
    )
    expect(await storedOf('b')).toEqual(before)
    expect(await as('a', () => patients.Patient.findById(aId).lean())).toMatchObject({ ssn: 'ssn-replaced' })
  })

  protects('deleteMany', 'deletes documents of the own tenant only', async () => {
    expect(await as('a', () => patients.Patient.deleteOne({ _id: bId }))).toMatchObject({ deletedCount: 0 })
    expect(await as('a', () => patients.Patient.findOneAndDelete({ email: 'b@example.org' }))).toBeNull()
    expect(await as('a', () => patients.Patient.deleteMany({ tags: 'tag-b' }))).toMatchObject({ deletedCount: 0 })
    expect(await as('a', () => patients.Patient.deleteMany({}))).toMatchObject({ deletedCount: 1 })
    expect(await storedOf('b')).toHaveLength(1)
  })

  protects('bulkWrite', 'each of its operations stays in the own tenant', async () => {
    const before = await storedOf('b')
    await as('a', () =>
      patients.Patient.bulkWrite([
        { updateMany: { filter: {}, update: { ssn: clinic.secret('ssn-bulk') } } },
        { updateOne: { filter: { _id: bId }, update: { ssn: 'x' } } },
        { updateOne: { filter: { email: 'b@example.org' }, update: { $set: { plan: 'up' } }, upsert: true } },
        { deleteMany: { filter: { plan: 'basic', tags: 'tag-b' } } },
        { deleteOne: { filter: { _id: bId } } },
      ]),
    )
    expect(await storedOf('b')).toEqual(before)
    await expect(
      as('a', () =>
        patients.Patient.bulkWrite([
          { deleteMany: { filter: {} } },
          { insertOne: { document: { clinicId: 'b', email: 'z@x.org' } } },
        ]),
      ),
    ).rejects.toMatchObject(mismatch)
    await expect(
      as('a', () =>
        patients.Patient.bulkWrite([{ replaceOne: { filter: { _id: aId }, replacement: { clinicId: 'b' } } }]),
      ),
    ).rejects.toMatchObject(mismatch)
    expect(await storedOf('a')).toHaveLength(2)
  })

  const named = { clinicId: 'b' }
  refuses('updateOne', 'a filter that names another tenant', { code: 'ERR_TENANT_MISMATCH' }, () =>
    as('a', () => patients.Patient.updateOne(named, { plan: 'x' })),
  )
  refuses('updateMany', 'a filter that names another tenant', { code: 'ERR_TENANT_MISMATCH' }, () =>
    as('a', () => patients.Patient.updateMany({ $and: [named] }, { plan: 'x' })),
  )
  refuses('findOneAndUpdate', 'a filter that names another tenant', { code: 'ERR_TENANT_MISMATCH' }, () =>
    as('a', () => patients.Patient.findOneAndUpdate({ clinicId: { $eq: 'b' } }, { ssn: 'x' })),
  )
  refuses('deleteMany', 'a filter that names another tenant', { code: 'ERR_TENANT_MISMATCH' }, () =>
    as('a', () => patients.Patient.deleteMany(named)),
  )
  refuses('findOneAndDelete', 'a filter that names another tenant', { code: 'ERR_TENANT_MISMATCH' }, () =>
    as('a', () => patients.Patient.findOneAndDelete(named)),
  )
  refuses('replaceOne', 'a filter that names another tenant', { code: 'ERR_TENANT_MISMATCH' }, () =>
    as('a', () => patients.Patient.replaceOne(named, { clinicId: 'a' })),
  )
  refuses('replaceOne', 'a document of another tenant', { code: 'ERR_TENANT_MISMATCH' }, () =>
    as('a', () => patients.Patient.replaceOne({ _id: aId }, { clinicId: 'b' })),
  )
  refuses(
    'replaceOne',
    'a document that names no tenant',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'tenant-unknown' },
    () => as('a', () => patients.native.replaceOne({ _id: aId }, { plan: 'x' })),
  )
  refuses('updateOne $set', 'another tenant', { code: 'ERR_TENANT_MISMATCH' }, () =>
    as('a', () => patients.Patient.updateOne({ _id: aId }, { clinicId: 'b' })),
  )
  refuses('updateOne $set', 'what holds the tenant, with another one', { code: 'ERR_TENANT_MISMATCH' }, () =>
    as('a', () => patients.native.updateOne({ _id: aId }, { $set: { 'clinicId.x': 1 } })),
  )
  refuses('updateOne $unset', 'the tenant', { code: 'ERR_TENANT_MISMATCH' }, () =>
    as('a', () => patients.native.updateOne({ _id: aId }, { $unset: { clinicId: 1 } })),
  )
  refuses('updateOne $rename', 'onto the tenant', { code: 'ERR_TENANT_MISMATCH' }, () =>
    as('a', () => patients.native.updateOne({ _id: aId }, { $rename: { plan: 'clinicId' } })),
  )
  refuses('updateOne $setOnInsert', 'another tenant', { code: 'ERR_TENANT_MISMATCH' }, () =>
    as('a', () =>
      patients.Patient.updateOne({ email: 'q@x.org' }, { $setOnInsert: { clinicId: 'b' } }, { upsert: true }),
    ),
  )
  refuses(
    'updateMany pipeline',
    'writes the tenant',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'pipeline-update' },
    () => as('a', () => patients.native.updateMany({}, [{ $set: { clinicId: '$plan' } }])),
  )
  refuses(
    'updateMany pipeline',
    'writes into the tenant',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'pipeline-update' },
    () => as('a', () => patients.native.updateMany({}, [{ $set: { 'clinicId.x': 1 } }])),
  )
  refuses(
    'updateMany pipeline',
    'takes the tenant away',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'pipeline-update' },
    () => as('a', () => patients.native.updateMany({}, [{ $unset: 'clinicId' }])),
  )
  refuses(
    'updateMany collation',
    'other tenants may be equal under it',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'collation' },
    () =>
      as('a', () =>
        patients.native.updateMany({}, { $set: { plan: 'x' } }, { collation: { locale: 'en', strength: 2 } }),
      ),
  )
  refuses(
    'deleteMany collation',
    'other tenants may be equal under it',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'collation' },
    () => as('a', () => patients.native.deleteMany({}, { collation: { locale: 'en', strength: 1 } })),
  )
  refuses(
    'replaceOne collation',
    'other tenants may be equal under it',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'collation' },
    () =>
      as('a', () =>
        patients.native.replaceOne({ plan: 'BASIC' }, { clinicId: 'a' }, { collation: { locale: 'en', strength: 1 } }),
      ),
  )
  refuses('save', 'a document that was moved to another tenant', { code: 'ERR_TENANT_MISMATCH' }, () =>
    as('a', async () => {
      const patient = await patients.Patient.findById(aId)
      patient.clinicId = 'b'
      await patient.save()
    }),
  )

  protects('updateOne $set', 'the tenant that it is', async () => {
    await as('a', () =>
      patients.Patient.updateOne({ _id: aId }, { clinicId: 'a', ssn: clinic.secret('ssn-same-tenant') }),
    )
    expect(await as('a', () => patients.Patient.findById(aId).lean())).toMatchObject({
      clinicId: 'a',
      ssn: 'ssn-same-tenant',
    })
  })

  it('the same e-mail may stand once in each tenant, a path across tenants once in all', async () => {
    await as('b', () => patients.Patient.create({ clinicId: 'b', email: 'a@example.org' }))
    await expect(
      as('b', () => patients.Patient.create({ clinicId: 'b', email: 'A@example.org' })),
    ).rejects.toMatchObject({
      code: 11000,
    })
    await expect(as('b', () => patients.Patient.updateOne({ _id: bId }, { login: 'login-a' }))).rejects.toMatchObject({
      code: 11000,
    })
    expect(await system(() => patients.Patient.findOne({ login: 'login-a' }).lean())).toMatchObject({
      clinicId: 'a',
      ssn: 'ssn-of-a',
    })
  })

  it('the context is the one in which an update was made, not the one in which it runs', async () => {
    const query = as('a', () => patients.Patient.updateOne({ plan: 'basic' }, { ssn: clinic.secret('ssn-late') }))
    await as('b', () => query)
    expect(await as('a', () => patients.Patient.findById(aId).lean())).toMatchObject({ ssn: 'ssn-late' })
    expect(await as('b', () => patients.Patient.findById(bId).lean())).toMatchObject({ ssn: 'ssn-of-b' })
  })

  it('a document of another tenant put into the own one brings nobody plaintext', async () => {
    const { collectionName } = patients.Patient.collection
    const direct = clinic.connection.getClient().db(clinic.connection.name).collection(collectionName)
    await direct.updateOne({ _id: bId }, { $set: { clinicId: 'a', plan: 'stolen' } })
    await expect(as('a', () => patients.Patient.findById(bId))).rejects.toMatchObject({ kind: 'corrupt' })
    await expect(as('a', () => patients.Patient.findOneAndUpdate({ _id: bId }, { plan: 'x' }))).rejects.toMatchObject({
      kind: 'corrupt',
    })
    await expect(as('a', () => patients.Patient.updateOne({ _id: bId }, { $inc: { age: 1 } }))).rejects.toMatchObject({
      kind: 'corrupt',
    })
    expect(await as('a', () => patients.Patient.find({ email: 'b@example.org' }))).toEqual([])
  })

  it('forty tenants that write at once stay apart', async () => {
    const tenants = Array.from({ length: 40 }, (_, n) => `t${n}`)
    await Promise.all(
      tenants.map((tenant) =>
        as(tenant, async () => {
          await patients.Patient.updateOne(
            { email: 'same@x.org' },
            { $set: { ssn: `ssn-of-${tenant}` } },
            { upsert: true },
          )
          await patients.Patient.updateOne({ email: 'same@x.org' }, { $addToSet: { tags: `tag-of-${tenant}` } })
        }),
      ),
    )
    const found = await Promise.all(
      tenants.map((tenant) => as(tenant, () => patients.Patient.find({ clinicId: tenant }).lean())),
    )
    expect(found.flat()).toMatchObject(
      tenants.map((tenant) => ({ clinicId: tenant, ssn: `ssn-of-${tenant}`, tags: [`tag-of-${tenant}`] })),
    )
    for (const tenant of tenants) await as(tenant, () => patients.Patient.deleteMany({}))
  })

  it('a tenant that is an ObjectId below another path is found, confined and kept', async () => {
    const [one, two] = [new Types.ObjectId(), new Types.ObjectId()]
    const Order = clinic.model(orderSchema())
    await as(one.toHexString(), () => Order.create({ org: { id: one, name: 'x' }, text: clinic.secret('order-one') }))
    await as(two.toHexString(), () => Order.create({ org: { id: two, name: 'x' }, text: clinic.secret('order-two') }))
    await as(one.toHexString(), () =>
      Order.updateOne({ 'org.name': 'x' }, { text: clinic.secret('order-changed'), org: { id: one, name: 'y' } }),
    )
    expect(await as(one.toHexString(), () => Order.findOne({ 'org.id': one }).lean())).toMatchObject({
      text: 'order-changed',
      org: { name: 'y' },
    })
    expect(await as(two.toHexString(), () => Order.findOne({ 'org.id': two }).lean())).toMatchObject({
      text: 'order-two',
      org: { name: 'x' },
    })
    for (const update of [
      { $set: { org: { id: two } } },
      { $set: { org: { name: 'z' } } },
      { $unset: { org: 1 } },
      { $set: { 'org.id': two } },
    ])
      await expect(as(one.toHexString(), () => Order.collection.updateOne({}, update))).rejects.toMatchObject(mismatch)
    await expect(
      as(one.toHexString(), () => Order.collection.updateOne({}, [{ $unset: 'org' }])),
    ).rejects.toMatchObject({ details: { reason: 'pipeline-update' } })
  })
})

function orderSchema() {
  return new Schema(
    { org: { id: Schema.Types.ObjectId, name: String }, text: { type: String, encrypted: true } },
    { encrypted: { tenantBy: 'org.id' } },
  )
}
