import { hasMongo } from '@fieldseal/servers/vitest'
import { describe, expect, it } from 'vitest'
import { useClinic } from './support/clinic.ts'
import { protects, refuses } from './support/operation.ts'
import { usePeople } from './support/people.ts'

describe.runIf(hasMongo())('replacements and deletes', () => {
  const clinic = useClinic({ tenancy: 'single' })
  const people = usePeople(clinic)
  const { id, other, one, leaf } = people

  protects('replaceOne', 'by a searchable path: nothing of the old document stays', async () => {
    const before = await leaf('__fieldseal.w')
    await people.Person.replaceOne(
      { email: 'ada@example.org' },
      { email: clinic.secret('new-ada@example.org'), tags: [clinic.secret('tag-replaced')], plan: 'gold' },
    )
    expect(await one()).toMatchObject({ email: 'new-ada@example.org', tags: ['tag-replaced'], plan: 'gold' })
    expect(await one()).not.toHaveProperty('ssn')
    expect(await people.Person.countDocuments({ email: 'ada@example.org' })).toBe(0)
    expect(await people.Person.countDocuments({ tags: 'tag-replaced', email: 'NEW-ada@example.org' })).toBe(1)
    expect(await leaf('__fieldseal.w')).not.toEqual(before)
  })

  protects('replaceOne', 'by a document without encrypted values keeps no ids of keys', async () => {
    await people.Person.replaceOne({ _id: id }, { plan: 'bare' })
    expect(await leaf('__fieldseal')).toBeUndefined()
    expect(await one()).toMatchObject({ plan: 'bare' })
  })

  protects('replaceOne upsert', 'makes the document, bound to the _id that the filter names', async () => {
    const _id = '64b0000000000000000000aa'
    await people.Person.replaceOne({ _id }, { ssn: clinic.secret('ssn-replace-upsert') }, { upsert: true })
    expect(await people.Person.findById(_id).lean()).toMatchObject({ ssn: 'ssn-replace-upsert' })
    await people.Person.replaceOne(
      { email: clinic.secret('ru@x.org') },
      { email: 'ru@x.org', ssn: clinic.secret('ssn-ru') },
      { upsert: true },
    )
    expect(await people.Person.findOne({ email: 'ru@x.org' }).lean()).toMatchObject({ ssn: 'ssn-ru' })
  })

  protects('replaceOne', 'by a hydrated document, which stays plaintext', async () => {
    const document = await people.Person.findById(id)
    document.ssn = clinic.secret('ssn-of-hydrated')
    await document.replaceOne(document)
    expect(document.ssn).toBe('ssn-of-hydrated')
    expect(await one()).toMatchObject({ ssn: 'ssn-of-hydrated', email: 'ada@example.org' })
  })

  protects('findOneAndReplace', 'gives the document before or after, opened', async () => {
    const next = { email: clinic.secret('foar@x.org'), ssn: clinic.secret('ssn-foar') }
    expect(await people.Person.findOneAndReplace({ email: 'ada@example.org' }, next)).toMatchObject({
      ssn: 'ssn-of-ada',
    })
    expect(
      await people.Person.findOneAndReplace({ _id: id }, next, { returnDocument: 'after', lean: true }),
    ).toMatchObject(next)
    expect(await people.Person.findOneAndReplace({ _id: id }, next, { projection: { ssn: 1 }, lean: true })).toEqual({
      _id: id,
      ssn: 'ssn-foar',
    })
    expect(await people.Person.findOneAndReplace({ email: clinic.secret('not-there@x.org') }, { ssn: 'x' })).toBeNull()
    expect(
      await people.Person.findOneAndReplace(
        { email: 'not-there@x.org' },
        { email: 'not-there@x.org' },
        { upsert: true, returnDocument: 'after' },
      ),
    ).toMatchObject({ email: 'not-there@x.org' })
  })

  refuses('replaceOne', 'update operators', { code: 'ERR_WRITE_UNSUPPORTED', reason: 'update-as-replacement' }, () =>
    people.native.replaceOne({ _id: id }, { $set: { ssn: clinic.secret('ssn-operators') } }),
  )
  refuses(
    'replaceOne __fieldseal',
    'written by the caller',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'reserved' },
    () => people.native.replaceOne({ _id: id }, { plan: 'x', __fieldseal: { k: [], w: 1 } }),
  )
  refuses(
    'findOneAndReplace',
    'by a path that is not searchable',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'not-searchable' },
    () => people.Person.findOneAndReplace({ ssn: 'ssn-of-ada' }, { plan: 'x' }),
  )

  protects('deleteOne', 'by a searchable path', async () => {
    expect(await people.Person.deleteOne({ email: 'ADA@example.org ' })).toMatchObject({ deletedCount: 1 })
    expect(await people.Person.deleteOne({ email: 'ada@example.org' })).toMatchObject({ deletedCount: 0 })
    expect(await people.Person.find({}).lean()).toMatchObject([{ email: 'bob@example.org' }])
  })
  protects('deleteMany', 'by searchable elements and by negation', async () => {
    expect(await people.Person.deleteMany({ 'history.code': 'code-cold', tags: { $in: ['tag-blue'] } })).toMatchObject({
      deletedCount: 1,
    })
    expect(await people.Person.deleteMany({ email: { $ne: 'bob@example.org' } })).toMatchObject({ deletedCount: 0 })
    expect(await people.Person.deleteMany({ email: { $ne: 'ada@example.org' } })).toMatchObject({ deletedCount: 1 })
  })
  protects('findOneAndDelete', 'gives the document that is gone', async () => {
    expect(await people.Person.findOneAndDelete({ tags: 'tag-red' }).lean()).toMatchObject({
      ssn: 'ssn-of-ada',
      history: [{ note: 'note-flu' }, {}, {}],
    })
    expect(
      await people.Person.findByIdAndDelete(other, { projection: { ssn: 1 }, includeResultMetadata: true, lean: true }),
    ).toMatchObject({
      value: { _id: other, ssn: 'ssn-of-bob' },
    })
    expect(await people.Person.findOneAndDelete({ email: 'bob@example.org' })).toBeNull()
  })
  protects('deleteOne', 'of a document', async () => {
    const document = await people.Person.findById(id)
    await document.deleteOne()
    expect(await people.Person.find({}).lean()).toMatchObject([{ email: 'bob@example.org' }])
  })
  refuses(
    'deleteMany',
    'by a path that is not searchable',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'not-searchable' },
    () => people.Person.deleteMany({ ssn: 'ssn-of-ada' }),
  )
  refuses(
    'deleteMany',
    'by a condition that needs the plaintext',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'range-on-encrypted' },
    () => people.Person.deleteMany({ email: /ada/ }),
  )
  it.each<[string, unknown]>([
    ['nothing in a list', { $or: [null] }],
    ['nothing in a list of all', { $and: [undefined, {}] }],
    ['a Map', new Map([['ssn', 'ssn-of-ada']])],
    ['a Map in a list', { $or: [new Map([['ssn', 'ssn-of-ada']])] }],
    ['null', null],
    ['text', 'text'],
    ['an id', id],
    ['a list', [{ _id: id }]],
  ])('a write by %s is refused, it does not mean every document', async (_, filter) => {
    const invalid = { code: 'ERR_ARGUMENT_INVALID' }
    await expect(people.native.deleteMany(filter)).rejects.toMatchObject(invalid)
    await expect(people.native.updateMany(filter, { $set: { plan: 'x' } })).rejects.toMatchObject(invalid)
    await expect(people.native.replaceOne(filter, { plan: 'x' })).rejects.toMatchObject(invalid)
    await expect(people.native.bulkWrite([{ deleteMany: { filter } }])).rejects.toMatchObject(invalid)
    expect(await people.Person.countDocuments({ plan: 'basic' })).toBe(2)
  })

  it('a bulk write without a filter is refused, and a key that every object inherits is a condition', async () => {
    await expect(people.native.bulkWrite([{ deleteMany: { where: { _id: id } } }])).rejects.toMatchObject({
      code: 'ERR_ARGUMENT_INVALID',
    })
    await people.native.deleteMany(JSON.parse('{"__proto__": {"x": 1}}'))
    await people.native.updateMany(JSON.parse('{"$or": [{"__proto__": 1}]}'), { $set: { plan: 'x' } })
    expect(await people.Person.countDocuments({ plan: 'basic' })).toBe(2)
  })

  refuses('deleteMany', 'by code', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'unsupported-filter' }, () =>
    people.native.deleteMany({ $where: 'this.ssn' }),
  )

  it('replacements and saves of one document at the same time leave a document that can be read', async () => {
    await Promise.all(
      Array.from({ length: 16 }, async (_, n) => {
        if (n % 2 === 0) return people.Person.replaceOne({ _id: id }, { ssn: `ssn-${n}`, age: n, tags: [`tag-${n}`] })
        const document = await people.Person.findById(id)
        document.ssn = `ssn-saved-${n}`
        return document.save().catch((error: Error) => expect(error.name).toMatch(/VersionError|DocumentNotFoundError/))
      }),
    )
    const found = await one()
    expect(found.ssn).toMatch(/^ssn-/)
    expect(await people.Person.countDocuments({ _id: id, tags: found.tags[0] })).toBe(1)
  })

  it('leaves the filter, the replacement and the options of the caller as they are', async () => {
    const [filter, replacement, options] = [
      { email: 'ada@example.org' },
      { ssn: 'kept', history: [{ code: 'c', note: 'n' }] },
      { upsert: true },
    ]
    const before = structuredClone([filter, replacement, options])
    await people.native.replaceOne(filter, replacement, options)
    await people.native.findOneAndReplace(filter, replacement, options)
    await people.native.deleteMany(filter, options)
    expect([filter, replacement, options]).toEqual(before)
  })
})
