import { hasMongo } from '@fieldseal/servers/vitest'
import { Types } from 'mongoose'
import { describe, expect, it } from 'vitest'
import { useClinic } from './support/clinic.ts'
import { protects, refuses } from './support/operation.ts'
import { usePeople } from './support/people.ts'

describe.runIf(hasMongo())('bulk writes', () => {
  const clinic = useClinic({ tenancy: 'single' })
  const people = usePeople(clinic)
  const { id, other, one } = people
  const failureOf = (attempt: Promise<unknown>) =>
    attempt.then(
      () => undefined,
      (error: unknown) => error,
    )

  protects('bulkWrite', 'all its operations, by searchable paths and in order', async () => {
    const added = new Types.ObjectId()
    const result = await people.Person.bulkWrite([
      { insertOne: { document: { _id: added, email: clinic.secret('bulk@x.org'), ssn: clinic.secret('ssn-bulk') } } },
      {
        updateOne: {
          filter: { email: 'BULK@x.org' },
          update: { $set: { ssn: clinic.secret('ssn-bulk-2') }, $push: { tags: clinic.secret('tag-bulk') } },
        },
      },
      { updateOne: { filter: { tags: 'tag-bulk' }, update: { email: clinic.secret('bulk-moved@x.org') } } },
      { updateMany: { filter: { plan: 'basic' }, update: { nickname: clinic.secret('nick-all') } } },
      {
        replaceOne: {
          filter: { nickname: 'nick-all', email: 'bob@example.org' },
          replacement: { email: clinic.secret('bob-2@x.org'), ssn: 's' },
        },
      },
      {
        updateOne: {
          filter: { email: clinic.secret('bulk-upsert@x.org') },
          update: { $set: { age: 1 } },
          upsert: true,
        },
      },
      {
        updateOne: {
          filter: { _id: id, 'history.code': 'code-cold' },
          update: { $set: { 'history.$.note': clinic.secret('note-bulk') } },
        },
      },
      {
        updateOne: {
          filter: { _id: id },
          update: { $set: { 'history.$[e].kind': 'bulk' } },
          arrayFilters: [{ 'e.code': 'code-flu' }],
        },
      },
      { deleteOne: { filter: { email: 'bob-2@x.org' } } },
      { deleteMany: { filter: { email: clinic.secret('nobody@x.org') } } },
    ])
    expect(result).toMatchObject({ insertedCount: 1, matchedCount: 7, deletedCount: 1, upsertedCount: 1 })
    expect(await people.Person.findById(added).lean()).toMatchObject({
      email: 'bulk-moved@x.org',
      ssn: 'ssn-bulk-2',
      tags: ['tag-bulk'],
    })
    expect(await people.Person.findOne({ email: 'bulk-upsert@x.org' }).lean()).toMatchObject({ age: 1 })
    expect(await one()).toMatchObject({
      nickname: 'nick-all',
      history: [{ kind: 'bulk' }, { note: 'note-bulk' }, { kind: 'bulk' }],
    })
    expect(await people.Person.findById(other)).toBeNull()
  })

  protects(
    'bulkWrite',
    'an ordered one stops at the operation that fails, and its index is that of the caller',
    async () => {
      const error = await failureOf(
        people.Person.bulkWrite([
          { updateOne: { filter: { _id: id }, update: { ssn: clinic.secret('ssn-before') } } },
          { insertOne: { document: { email: clinic.secret('fine@x.org') } } },
          { insertOne: { document: { email: 'Ada@example.org' } } },
          { updateOne: { filter: { _id: id }, update: { ssn: 'never' } } },
        ]),
      )
      expect(error).toMatchObject({
        code: 11000,
        writeErrors: [{ index: 2, code: 11000 }],
        insertedCount: 1,
        matchedCount: 1,
      })
      expect(String(error)).not.toMatch(/ada@example/i)
      expect(await one()).toMatchObject({ ssn: 'ssn-before' })
      expect(await people.Person.countDocuments({ email: 'fine@x.org' })).toBe(1)
    },
  )

  protects('bulkWrite', 'an unordered one goes on, and tells the index of each that failed', async () => {
    const error = await failureOf(
      people.Person.bulkWrite(
        [
          { insertOne: { document: { email: 'bob@example.org' } } },
          { insertOne: { document: { email: clinic.secret('unordered@x.org') } } },
          { updateOne: { filter: { _id: id }, update: { email: 'bob@example.org' } } },
          { updateOne: { filter: { _id: other }, update: { ssn: clinic.secret('ssn-unordered') } } },
        ],
        { ordered: false },
      ),
    )
    const { writeErrors } = error as { readonly writeErrors: readonly { readonly index: number }[] }
    expect(writeErrors.map(({ index }) => index).toSorted((one, two) => one - two)).toEqual([0, 2])
    expect(await people.Person.findById(other).lean()).toMatchObject({ ssn: 'ssn-unordered' })
    expect(await people.Person.countDocuments({ email: 'unordered@x.org' })).toBe(1)
  })

  it('an operation that is refused keeps all of them from being sent', async () => {
    await expect(
      people.Person.bulkWrite([
        { deleteMany: { filter: {} } },
        { updateOne: { filter: { ssn: 'ssn-of-ada' }, update: { plan: 'x' } } },
      ]),
    ).rejects.toMatchObject({ code: 'ERR_QUERY_UNSUPPORTED' })
    expect(await people.Person.countDocuments({})).toBe(2)
  })

  it('gives the ids of inserted and upserted documents by the index of their operation', async () => {
    const result = await people.Person.bulkWrite([
      { deleteOne: { filter: { _id: other } } },
      { insertOne: { document: { email: clinic.secret('with-id@x.org') } } },
      { updateOne: { filter: { email: clinic.secret('up-id@x.org') }, update: { plan: 'x' }, upsert: true } },
    ])
    expect(result.insertedIds[1]).toEqual((await people.Person.findOne({ email: 'with-id@x.org' }))._id)
    expect(result.upsertedIds[2]).toEqual((await people.Person.findOne({ email: 'up-id@x.org' }))._id)
  })

  protects('bulkWrite $inc', 'an operator that needs the plaintext reads the document in its turn', async () => {
    const { age } = await people.Person.findById(id)
    const $inc = { updateOne: { filter: { _id: id }, update: { $inc: { age: 1 } } } }
    expect(await people.Person.bulkWrite([$inc, $inc])).toMatchObject({ matchedCount: 2, modifiedCount: 2 })
    expect((await people.Person.findById(id)).age).toBe(age + 2)
  })
  refuses('bulkWrite $inc', 'of many documents', { code: 'ERR_WRITE_UNSUPPORTED', reason: 'update-many' }, () =>
    people.Person.bulkWrite([{ updateMany: { filter: {}, update: { $inc: { age: 1 } } } }]),
  )
  protects('bulkWrite $addToSet', 'an encrypted element is added once', async () => {
    const $addToSet = { tags: clinic.secret('tag-bulk-set') }
    const adding = { updateOne: { filter: { _id: id }, update: { $addToSet } } }
    await people.Person.bulkWrite([adding, adding])
    const { tags } = await people.Person.findById(id).lean()
    expect(tags.filter((tag: string) => tag === 'tag-bulk-set')).toHaveLength(1)
  })
  refuses(
    'bulkWrite pipeline',
    'writes an encrypted path',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'pipeline-update' },
    () =>
      people.native.bulkWrite([
        { updateOne: { filter: { _id: id }, update: [{ $set: { ssn: clinic.secret('ssn-bulk-pipeline') } }] } },
      ]),
  )
  refuses(
    'bulkWrite',
    'a whole document as an update',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'replacement-as-update' },
    () =>
      people.native.bulkWrite([
        { updateOne: { filter: { _id: id }, update: { ssn: clinic.secret('ssn-bulk-whole') } } },
      ]),
  )
  refuses(
    'bulkWrite',
    'update operators as a replacement',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'update-as-replacement' },
    () =>
      people.native.bulkWrite([
        { replaceOne: { filter: { _id: id }, replacement: { $set: { ssn: clinic.secret('ssn-bulk-op') } } } },
      ]),
  )
  refuses('bulkWrite', 'an operation that nobody knows', { code: 'ERR_WRITE_UNSUPPORTED', reason: 'bulk-op' }, () =>
    people.native.bulkWrite([
      { upsertOne: { filter: {}, update: { $set: { ssn: clinic.secret('ssn-bulk-unknown') } } } },
    ]),
  )
  refuses('bulkWrite __fieldseal', 'written by the caller', { code: 'ERR_WRITE_UNSUPPORTED', reason: 'reserved' }, () =>
    people.native.bulkWrite([{ insertOne: { document: { __fieldseal: {} } } }]),
  )

  it('takes hydrated documents in its operations, which stay plaintext', async () => {
    const document = new people.Person({
      email: clinic.secret('hydrated@x.org'),
      history: [{ note: clinic.secret('note-hydrated') }],
    })
    const replacement = new people.Person({ _id: id, ssn: clinic.secret('ssn-hydrated') })
    await people.native.bulkWrite([{ insertOne: { document } }, { replaceOne: { filter: { _id: id }, replacement } }])
    expect(document.toObject()).toMatchObject({ email: 'hydrated@x.org', history: [{ note: 'note-hydrated' }] })
    expect(await people.Person.findById(document._id).lean()).toMatchObject({
      email: 'hydrated@x.org',
      history: [{ note: 'note-hydrated' }],
    })
    expect(await one()).toMatchObject({ ssn: 'ssn-hydrated' })
  })

  it('leaves the operations and the options of the caller as they are', async () => {
    const operations = [
      {
        updateOne: {
          filter: { email: 'ada@example.org' },
          update: { $set: { ssn: 'kept', history: [{ code: 'c', note: 'n' }] } },
          upsert: true,
        },
      },
      {
        updateOne: {
          filter: { _id: id },
          update: { $set: { 'history.$[e].note': 'm' } },
          arrayFilters: [{ 'e.code': 'c' }],
          hint: { _id: 1 },
        },
      },
      { replaceOne: { filter: { _id: other }, replacement: { email: 'bob@example.org', tags: ['t'] } } },
      { deleteOne: { filter: { tags: 't' } } },
    ]
    const options = { ordered: true }
    const before = structuredClone([operations, options])
    // structuredClone makes plain objects of ids.
    await people.native.bulkWrite(operations, options)
    expect(structuredClone([operations, options])).toEqual(before)
  })

  it('three hundred updates take the keys once', async () => {
    const documents = Array.from({ length: 300 }, (_, n) => ({ email: `many-${n}@x.org`, ssn: `s${n}` }))
    await people.Person.insertMany(documents)
    const calls = clinic.kms.calls.length
    await people.Person.bulkWrite(
      documents.map(({ email }, n) => ({ updateOne: { filter: { email }, update: { ssn: `t${n}` } } })),
    )
    expect(clinic.kms.calls.length).toBe(calls)
    expect((await people.Person.findOne({ email: 'many-299@x.org' })).ssn).toBe('t299')
  })
})
