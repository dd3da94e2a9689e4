import { hasMongo } from '@fieldseal/servers/vitest'
import { describe, expect, it } from 'vitest'
import { useClinic } from './support/clinic.ts'
import { protects, refuses } from './support/operation.ts'
import { usePeople } from './support/people.ts'

describe.runIf(hasMongo())('updates of encrypted paths', () => {
  const clinic = useClinic({ tenancy: 'single' })
  const people = usePeople(clinic)
  const { id, one, leaf } = people

  protects('updateOne', 'by _id, by a searchable path and by a plain path', async () => {
    await people.Person.updateOne({ _id: id }, { ssn: clinic.secret('ssn-by-id') })
    expect(await one()).toMatchObject({ ssn: 'ssn-by-id', email: 'ada@example.org' })
    await people.Person.updateOne({ email: ' ADA@example.org' }, { $set: { ssn: clinic.secret('ssn-by-email') } })
    expect(await one()).toMatchObject({ ssn: 'ssn-by-email' })
    expect(
      await people.Person.updateOne(
        { plan: 'basic', email: { $in: ['nobody@example.org', 'ada@example.org'] } },
        { ssn: 'x' },
      ),
    ).toMatchObject({ matchedCount: 1, modifiedCount: 1 })
    expect(await people.Person.updateOne({ email: clinic.secret('nobody@example.org') }, { ssn: 'y' })).toMatchObject({
      matchedCount: 0,
    })
    expect(await people.Person.find({}).sort('_id').lean()).toMatchObject([{ ssn: 'x' }, { ssn: 'ssn-of-bob' }])
  })

  protects('updateOne $set', 'a changed searchable value is found by the new one only', async () => {
    await people.Person.updateOne({ _id: id }, { email: clinic.secret('lovelace@example.org') })
    expect(await people.Person.countDocuments({ email: 'ada@example.org' })).toBe(0)
    expect(await people.Person.findOne({ email: 'lovelace@example.org' }).lean()).toMatchObject({ _id: id })
    await people.Person.updateOne({ _id: id }, { $set: { 'history.1.code': clinic.secret('code-new') } })
    expect(await people.Person.countDocuments({ 'history.code': 'code-cold' })).toBe(0)
    expect(await people.Person.countDocuments({ 'history.code': 'code-new' })).toBe(1)
  })

  protects('updateOne $set', 'null and $unset take the value and its token away', async () => {
    await people.Person.updateOne({ _id: id }, { $set: { email: null }, $unset: { ssn: 1, 'address.street': 1 } })
    const found = await one()
    expect(found).toMatchObject({ email: null, address: { city: 'London' } })
    expect(found).not.toHaveProperty('ssn')
    expect(await people.Person.countDocuments({ email: 'ada@example.org' })).toBe(0)
    expect(await leaf('email')).toBeNull()
  })

  protects('updateOne $set', 'nested objects, whole arrays, Maps and array elements by index', async () => {
    await people.Person.updateOne(
      { _id: id },
      {
        address: { street: clinic.secret('Second Street'), city: 'Paris' },
        history: [{ code: clinic.secret('code-only'), note: clinic.secret('note-only') }],
        phones: { home: clinic.secret('phone-home') },
        tags: [clinic.secret('tag-only')],
      },
    )
    expect(await one()).toMatchObject({
      address: { street: 'Second Street', city: 'Paris' },
      history: [{ code: 'code-only', note: 'note-only' }],
      phones: { home: 'phone-home' },
      tags: ['tag-only'],
    })
    await people.Person.updateOne(
      { _id: id },
      {
        'history.0.note': clinic.secret('note-0'),
        'phones.mobile': clinic.secret('phone-m'),
        'tags.0': clinic.secret('tag-0'),
      },
    )
    expect(await one()).toMatchObject({
      history: [{ code: 'code-only', note: 'note-0' }],
      phones: { home: 'phone-home', mobile: 'phone-m' },
      tags: ['tag-0'],
    })
  })

  protects(
    'updateMany',
    'one value for many documents, not bound to any, and plain paths by searchable ones',
    async () => {
      expect(await people.Person.updateMany({ plan: 'basic' }, { ssn: clinic.secret('ssn-of-all') })).toMatchObject({
        matchedCount: 2,
      })
      expect(await people.Person.find({ plan: 'basic' }).lean()).toMatchObject([
        { ssn: 'ssn-of-all' },
        { ssn: 'ssn-of-all' },
      ])
      await people.Person.updateMany({ email: { $ne: 'bob@example.org' } }, { plan: 'gold' })
      expect(await people.Person.find({}).sort('_id').lean()).toMatchObject([{ plan: 'gold' }, { plan: 'basic' }])
    },
  )

  refuses(
    'updateMany $inc',
    'an operator that needs the plaintext of each document',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'update-many' },
    () => people.Person.updateMany({}, { $inc: { age: 1 } }),
  )
  protects('findOneAndUpdate', 'gives the document before or after, opened, projected and with metadata', async () => {
    const change = (options: object) =>
      people.Person.findOneAndUpdate({ email: 'ada@example.org' }, { ssn: clinic.secret('ssn-2') }, options)
    expect(await change({})).toMatchObject({ ssn: 'ssn-of-ada', email: 'ada@example.org' })
    expect(await change({ new: true })).toMatchObject({ ssn: 'ssn-2' })
    expect(await change({ new: true, lean: true, projection: { ssn: 1 } })).toEqual({ _id: id, ssn: 'ssn-2' })
    expect(await change({ projection: { ssn: 0, history: 0 }, lean: true })).not.toHaveProperty('ssn')
    expect(await change({ includeResultMetadata: true, lean: true })).toMatchObject({
      value: { ssn: 'ssn-2' },
      lastErrorObject: { n: 1, updatedExisting: true },
    })
    expect(
      await people.Person.findOneAndUpdate({ email: clinic.secret('no-one@example.org') }, { ssn: 'z' }),
    ).toBeNull()
    expect(
      await people.Person.findOneAndUpdate({ plan: 'basic' }, { plan: 'old' }, { sort: { _id: -1 }, lean: true }),
    ).toMatchObject({ email: 'bob@example.org' })
    expect(await people.Person.findByIdAndUpdate(id, { $inc: { age: 4 } }, { new: true, lean: true })).toMatchObject({
      age: 40,
    })
    expect(
      await people.Person.findByIdAndUpdate(id, { $inc: { age: 1 } }, { lean: true, projection: { plan: 1 } }),
    ).toEqual({
      _id: id,
      plan: 'basic',
    })
  })

  refuses(
    'findOneAndUpdate',
    'sorted by an encrypted path',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'sort-on-encrypted' },
    () => people.Person.findOneAndUpdate({}, { plan: 'q' }, { sort: { age: 1 } }),
  )

  protects('updateOne hint', 'a hint names the searchable path', async () => {
    expect(
      await people.Person.updateOne(
        { email: 'ada@example.org' },
        { ssn: clinic.secret('ssn-hint') },
        { hint: { email: 1 } },
      ),
    ).toMatchObject({ matchedCount: 1 })
    expect(
      await people.Person.updateOne({ email: 'ada@example.org' }, { $inc: { age: 1 } }, { hint: { email: 1 } }),
    ).toMatchObject({ matchedCount: 1 })
    expect(await one()).toMatchObject({ ssn: 'ssn-hint', age: 37 })
  })

  it('a collation reaches plain text and leaves the value unbound; the simple one changes nothing', async ({
    skip,
  }) => {
    const collated = { collation: { locale: 'en', strength: 2 }, sort: { _id: 1 } } as const
    try {
      await people.native.updateOne({ plan: 'nobody' }, { $set: { plan: 'x' } }, collated)
    } catch {
      skip('the server has no collation for updates')
    }
    await people.Person.updateOne({ plan: 'BASIC' }, { ssn: clinic.secret('ssn-collation') }, collated)
    expect(await one()).toMatchObject({ ssn: 'ssn-collation' })
    await people.Person.updateOne({ tags: 'tag-red' }, { plan: 'simple' }, { collation: { locale: 'simple' } })
    expect(await one()).toMatchObject({ plan: 'simple' })
  })
  refuses(
    'updateOne collation',
    'of a searchable path without normalizer',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'collation' },
    () => people.Person.updateOne({ tags: 'TAG-RED' }, { plan: 'q' }, { collation: { locale: 'en', strength: 2 } }),
  )

  protects('updateOne $rename', 'plain paths to plain ones', async () => {
    await people.native.updateOne({ _id: id }, { $rename: { plan: 'tariff' } })
    expect(await people.native.findOne({ _id: id })).toMatchObject({ tariff: 'basic', ssn: 'ssn-of-ada' })
  })
  refuses('updateOne $rename', 'from an encrypted path', { code: 'ERR_WRITE_UNSUPPORTED', reason: 'rename' }, () =>
    people.Person.updateOne({ _id: id }, { $rename: { ssn: 'plan' } }),
  )
  refuses('updateOne $rename', 'onto an encrypted path', { code: 'ERR_WRITE_UNSUPPORTED', reason: 'rename' }, () =>
    people.Person.updateOne({ _id: id }, { $rename: { plan: 'ssn' } }),
  )
  refuses('updateOne $rename', 'what holds encrypted paths', { code: 'ERR_WRITE_UNSUPPORTED', reason: 'rename' }, () =>
    people.native.updateOne({ _id: id }, { $rename: { address: 'home' } }),
  )
  refuses('updateOne $bit', 'an encrypted number', { code: 'ERR_WRITE_UNSUPPORTED', reason: 'unsupported-op' }, () =>
    people.native.updateOne({ _id: id }, { $bit: { age: { or: 1 } } }),
  )
  refuses(
    'updateOne $currentDate',
    'an encrypted date',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'unsupported-op' },
    () => people.Person.updateOne({ _id: id }, { $currentDate: { born: true } }),
  )
  protects('updateOne pipeline', 'stages that touch plain paths only', async () => {
    await people.Person.updateOne(
      { email: 'ada@example.org' },
      [{ $set: { plan: { $concat: ['$plan', '+'] } } }, { $unset: 'ssn' }],
      { updatePipeline: true },
    )
    const found = await one()
    expect(found).toMatchObject({ plan: 'basic+', email: 'ada@example.org' })
    expect(found).not.toHaveProperty('ssn')
  })
  const pipeline = (stage: object) => people.native.updateOne({ _id: id }, [stage])
  refuses(
    'updateOne pipeline',
    'writes an encrypted path',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'pipeline-update' },
    () => pipeline({ $set: { ssn: clinic.secret('in-pipeline') } }),
  )
  refuses(
    'updateOne pipeline',
    'writes what holds an encrypted path',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'pipeline-update' },
    () => pipeline({ $set: { address: { street: clinic.secret('in-pipeline-2') } } }),
  )
  refuses(
    'updateOne pipeline',
    'copies ciphertext to a plain path',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'expr-on-encrypted' },
    () => pipeline({ $set: { plan: '$ssn' } }),
  )
  refuses(
    'updateOne pipeline',
    'replaces the document',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'pipeline-update' },
    () => pipeline({ $replaceWith: { ssn: clinic.secret('in-pipeline-3') } }),
  )
  refuses(
    'updateOne pipeline',
    'takes away a part of an encrypted value',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'pipeline-update' },
    () => pipeline({ $unset: ['email.b'] }),
  )
  refuses(
    'updateOne pipeline',
    'takes away a part of an encrypted container',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'pipeline-update' },
    () => pipeline({ $unset: 'prefs.theme' }),
  )

  refuses('updateOne __fieldseal', 'written by the caller', { code: 'ERR_WRITE_UNSUPPORTED', reason: 'reserved' }, () =>
    people.native.updateOne({ _id: id }, { $set: { '__fieldseal.k': [] } }),
  )
  refuses('updateOne __fieldseal', 'removed by the caller', { code: 'ERR_WRITE_UNSUPPORTED', reason: 'reserved' }, () =>
    people.native.updateOne({ _id: id }, { $unset: { __fieldseal: 1 } }),
  )
  refuses(
    'updateOne __fieldseal',
    'made by renaming a path',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'reserved' },
    () => people.native.updateOne({ _id: id }, { $rename: { plan: '__fieldseal' } }),
  )
  refuses(
    'updateOne __fieldseal',
    'removed by a pipeline',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'pipeline-update' },
    () => pipeline({ $unset: '__fieldseal' }),
  )
  refuses(
    'updateOne',
    'a whole document without operators',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'replacement-as-update' },
    () => people.native.updateOne({ _id: id }, { ssn: clinic.secret('replaced-whole') }),
  )
  refuses(
    'updateOne $set',
    'a name with dots that looks like an encrypted path',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'dotted-key' },
    () => people.native.updateOne({ _id: id }, { $set: { history: [{ 'code.x': clinic.secret('dotted') }] } }),
  )
  refuses(
    'updateOne $set',
    'the stored form of an encrypted path',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'needs-emulation' },
    () => people.native.updateOne({ _id: id }, { $set: { 'email.b': clinic.secret('token-forged') } }),
  )

  protects('updateOne w: 0', 'a value is stored encrypted though nothing is answered', async () => {
    await people.Person.updateOne({ _id: id }, { ssn: clinic.secret('ssn-w0') }, { writeConcern: { w: 0 } })
    await expect.poll(async () => (await one()).ssn).toBe('ssn-w0')
  })
  refuses(
    'updateOne $inc',
    'with w: 0 nobody would know whether it was done',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'unacknowledged' },
    () => people.Person.updateOne({ _id: id }, { $inc: { age: 1 } }, { writeConcern: { w: 0 } }),
  )

  refuses('updateOne', 'operands that are no object', { code: 'ERR_WRITE_UNSUPPORTED', reason: 'unsupported-op' }, () =>
    people.native.updateOne({ _id: id }, { $set: new Map([['ssn', clinic.secret('ssn-in-map')]]), $inc: { age: 1 } }),
  )

  it('leaves the filter, the update and the options of the caller as they are', async () => {
    const filter = { email: 'ada@example.org', $and: [{ tags: 'tag-red' }] }
    const update = {
      $set: { ssn: 'n', address: { street: 's', city: 'c' } },
      $push: { tags: { $each: ['t'] } },
      $inc: { age: 1 },
    }
    const options = { arrayFilters: [{ 'e.code': 'code-flu' }], hint: { email: 1 } }
    const withElements = { $set: { 'history.$[e].note': 'm' } }
    const before = structuredClone([filter, update, options, withElements])
    await people.native.updateOne(filter, update, { hint: options.hint })
    await people.native.updateOne(filter, withElements, options)
    await people.native.findOneAndUpdate(filter, withElements, { arrayFilters: options.arrayFilters })
    await people.Person.updateOne(filter, update)
    expect([filter, update, options, withElements]).toEqual(before)
    const query = people.Person.updateOne({ email: 'ada@example.org' }, { ssn: 'o' })
    await query
    expect(query.getFilter()).toEqual({ email: 'ada@example.org' })
    expect(query.getUpdate()).toEqual({ $set: { ssn: 'o' } })
  })

  it('an update of other paths leaves the bytes of an encrypted one', async () => {
    const before = [await leaf('ssn'), await leaf('history.0')]
    await people.Person.updateOne(
      { _id: id },
      { plan: 'x', email: 'q@example.org', $inc: { age: 1 }, $push: { history: { code: 'c', note: 'n' } } },
    )
    expect([await leaf('ssn'), await leaf('history.0')]).toEqual(before)
  })
})
