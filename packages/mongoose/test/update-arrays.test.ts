import { hasMongo } from '@fieldseal/servers/vitest'
import { describe, expect, it } from 'vitest'
import { useClinic } from './support/clinic.ts'
import { protects, refuses } from './support/operation.ts'
import { usePeople } from './support/people.ts'

describe.runIf(hasMongo())('updates of arrays with encrypted elements', () => {
  const clinic = useClinic({ tenancy: 'single' })
  const people = usePeople(clinic)
  const { id, other, one, leaf } = people

  protects('updateOne $set items.$', 'the element that an encrypted condition found', async () => {
    await people.Person.updateOne(
      { 'history.code': 'code-cold' },
      { $set: { 'history.$.note': clinic.secret('note-$') } },
    )
    expect((await one()).history.map(({ note }: { note: string }) => note)).toEqual([
      'note-flu',
      'note-$',
      'note-flu-again',
    ])
    await people.Person.updateOne(
      { _id: id, history: { $elemMatch: { code: 'code-flu', kind: 'z' } } },
      { $set: { 'history.$': { code: clinic.secret('code-z'), note: clinic.secret('note-z') } } },
    )
    expect((await one()).history[2]).toMatchObject({ code: 'code-z', note: 'note-z' })
    await people.Person.updateOne({ tags: 'tag-blue' }, { $set: { 'tags.$': clinic.secret('tag-green') } })
    expect((await one()).tags).toEqual(['tag-red', 'tag-green', 'tag-red-ish'])
  })

  protects('updateOne $set items.$[]', 'every element', async () => {
    await people.Person.updateOne(
      { _id: id },
      { $set: { 'history.$[].note': clinic.secret('note-all'), 'tags.$[]': clinic.secret('tag-all') } },
    )
    const found = await one()
    expect(found.history.map(({ note }: { note: string }) => note)).toEqual(['note-all', 'note-all', 'note-all'])
    expect(found.tags).toEqual(['tag-all', 'tag-all', 'tag-all'])
    expect(await people.Person.countDocuments({ tags: 'tag-all' })).toBe(1)
  })

  protects('updateOne arrayFilters', 'elements by conditions on their encrypted paths', async () => {
    await people.Person.updateOne(
      { _id: id },
      { $set: { 'history.$[flu].note': clinic.secret('note-filtered'), 'tags.$[red]': clinic.secret('tag-scarlet') } },
      { arrayFilters: [{ 'flu.code': 'code-flu', 'flu.kind': 'z' }, { red: { $in: ['tag-red'] } }] },
    )
    const found = await one()
    expect(found.history.map(({ note }: { note: string }) => note)).toEqual(['note-flu', 'note-cold', 'note-filtered'])
    expect(found.tags).toEqual(['tag-scarlet', 'tag-blue', 'tag-red-ish'])
    await people.Person.findOneAndUpdate(
      { _id: id },
      { $set: { 'history.$[e].kind': 'done' } },
      { arrayFilters: [{ $or: [{ 'e.code': 'code-cold' }, { 'e.kind': 'z' }] }] },
    )
    expect((await one()).history.map(({ kind }: { kind: string }) => kind)).toEqual(['x', 'done', 'done'])
    await people.Person.updateOne(
      { _id: id },
      { $set: { 'history.$[e].kind': 'neither' } },
      { arrayFilters: [{ 'e.code': { $ne: 'code-flu', $not: { $eq: 'code-cold' } } }] },
    )
    expect((await one()).history.map(({ kind }: { kind: string }) => kind)).toEqual(['x', 'done', 'done'])
  })

  refuses(
    'updateOne arrayFilters',
    'a path of the elements that has no blindIndex',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'not-searchable' },
    () =>
      people.Person.updateOne(
        { _id: id },
        { $set: { 'history.$[e].kind': 'q' } },
        { arrayFilters: [{ 'e.note': 'note-flu' }] },
      ),
  )

  refuses(
    'updateOne arrayFilters',
    'an identifier that the update does not use',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'unsupported-filter' },
    () =>
      people.native.updateOne(
        { _id: id },
        { $set: { plan: 'q' } },
        { arrayFilters: [{ 'e.note': clinic.secret('never-used') }] },
      ),
  )

  refuses(
    'updateOne arrayFilters',
    'one identifier for two arrays of which one has encrypted paths',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'unsupported-filter' },
    () =>
      people.native.updateOne(
        { _id: id },
        { $set: { 'history.$[e].kind': 'q', 'plain.$[e].kind': 'q' } },
        { arrayFilters: [{ 'e.code': clinic.secret('code-two-arrays') }] },
      ),
  )

  protects(
    'updateOne $push',
    'single values, $each with $position and $slice, subdocuments sorted by a plain path',
    async () => {
      await people.Person.updateOne({ _id: id }, { $push: { tags: clinic.secret('tag-pushed') } })
      await people.Person.updateOne(
        { _id: id },
        {
          $push: {
            tags: { $each: [clinic.secret('tag-first'), clinic.secret('tag-second')], $position: 0, $slice: 3 },
          },
        },
      )
      expect((await one()).tags).toEqual(['tag-first', 'tag-second', 'tag-red'])
      await people.Person.updateOne(
        { _id: id },
        {
          $push: {
            history: {
              $each: [{ code: clinic.secret('code-a'), note: clinic.secret('note-a'), kind: 'a' }],
              $sort: { kind: 1 },
              $slice: 2,
            },
          },
        },
      )
      expect((await one()).history).toMatchObject([{ code: 'code-a', note: 'note-a' }, { code: 'code-flu' }])
      expect(await people.Person.countDocuments({ 'history.code': 'code-a', tags: 'tag-second' })).toBe(1)
      await people.Person.updateOne({ _id: other }, { $push: { tags: clinic.secret('tag-new-array'), marks: 7 } })
      expect(await people.Person.findById(other).lean()).toMatchObject({ tags: ['tag-new-array'], marks: [7] })
    },
  )

  refuses(
    'updateOne $push $sort',
    'by an encrypted path of the elements',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'sort-on-encrypted' },
    () => people.Person.updateOne({ _id: id }, { $push: { history: { $each: [], $sort: { code: 1 } } } }),
  )
  refuses(
    'updateOne $push $sort',
    'encrypted elements',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'sort-on-encrypted' },
    () => people.Person.updateOne({ _id: id }, { $push: { tags: { $each: [], $sort: 1 } } }),
  )
  refuses(
    'updateOne $push $sort',
    'whole subdocuments that hold encrypted paths',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'sort-on-encrypted' },
    () => people.Person.updateOne({ _id: id }, { $push: { history: { $each: [], $sort: -1 } } }),
  )

  protects(
    'updateOne $pull',
    'searchable elements by equality and $in, subdocuments by plain and searchable paths',
    async () => {
      await people.Person.updateOne({ _id: id }, { $pull: { tags: 'tag-red' } })
      expect((await one()).tags).toEqual(['tag-blue', 'tag-red-ish'])
      await people.Person.updateOne(
        { _id: id },
        { $pull: { tags: { $in: ['tag-blue', clinic.secret('tag-unknown')] } } },
      )
      expect((await one()).tags).toEqual(['tag-red-ish'])
      await people.Person.updateOne({ _id: id }, { $pull: { history: { code: 'code-flu', kind: 'z' } } })
      await people.Person.updateOne({ _id: id }, { $pull: { history: { kind: { $in: ['y'] } } } })
      expect((await one()).history).toMatchObject([{ code: 'code-flu', kind: 'x' }])
    },
  )

  protects('updateOne $pullAll', 'searchable elements by their values', async () => {
    await people.Person.updateOne({ _id: id }, { $pullAll: { tags: ['tag-red', 'tag-red-ish'] } })
    expect((await one()).tags).toEqual(['tag-blue'])
    await people.Person.updateOne({ _id: id }, { $pullAll: { tags: [] } })
    expect((await one()).tags).toEqual(['tag-blue'])
  })

  protects('updateOne $addToSet', 'encrypted elements, searchable or not, are added once', async () => {
    await people.Person.updateOne({ _id: id }, { $addToSet: { tags: 'tag-blue' } })
    const before = (await leaf('tags')) as unknown[]
    await people.Person.updateOne(
      { _id: id },
      {
        $addToSet: {
          tags: { $each: ['tag-red', clinic.secret('tag-added'), 'tag-added'] },
          marks: { $each: [1, 2, 1] },
        },
        $set: { ssn: clinic.secret('ssn-beside') },
      },
    )
    await people.Person.updateOne({ _id: id }, { $addToSet: { marks: 2 } })
    expect(await one()).toMatchObject({
      tags: ['tag-red', 'tag-blue', 'tag-red-ish', 'tag-added'],
      marks: [1, 2],
      ssn: 'ssn-beside',
    })
    expect(((await leaf('tags')) as unknown[]).slice(0, 3), 'the others keep their bytes').toEqual(before)
    expect(await people.Person.countDocuments({ tags: 'tag-added' })).toBe(1)
  })

  it('adds a value once however many writers add it at the same time', async () => {
    await Promise.all(
      Array.from({ length: 12 }, (_, n) =>
        people.Person.updateOne({ _id: id }, { $addToSet: { tags: `tag-of-${n % 3}`, marks: n % 4 } }),
      ),
    )
    const { tags, marks } = await one()
    expect(tags.slice(3).toSorted()).toEqual(['tag-of-0', 'tag-of-1', 'tag-of-2'])
    expect(marks.toSorted((left, right) => left - right)).toEqual([0, 1, 2, 3])
  })

  protects('updateOne $pull', 'elements that are not searchable, and whole subdocuments, by reading them', async () => {
    await people.Person.updateOne({ _id: id }, { $push: { marks: { $each: [1, 2, 3, 2] } } })
    await people.Person.updateOne({ _id: id }, { $pull: { marks: 2 } })
    expect((await one()).marks).toEqual([1, 3])
    await people.Person.updateOne({ _id: id }, { $pullAll: { marks: [3, 9] } })
    expect((await one()).marks).toEqual([1])
    const [first] = (await one()).history
    await people.native.updateOne({ _id: id }, { $pullAll: { history: [first] } })
    expect((await one()).history).toMatchObject([{ kind: 'y' }, { kind: 'z' }])
  })

  protects('updateOne $pop', 'removes an encrypted element', async () => {
    await people.Person.updateOne({ _id: id }, { $pop: { tags: 1, history: -1 } })
    expect(await one()).toMatchObject({ tags: ['tag-red', 'tag-blue'], history: [{ kind: 'y' }, { kind: 'z' }] })
  })

  refuses(
    'updateMany $addToSet',
    'elements of each document would have to be read',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'update-many' },
    () => people.Person.updateMany({}, { $addToSet: { tags: 'tag-x' } }),
  )

  refuses(
    'updateOne $inc items.$',
    'which element is meant is known to the server only',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'needs-emulation' },
    () => people.Person.updateOne({ 'history.code': 'code-flu' }, { $inc: { 'history.$.times': 1 } }),
  )

  it('a filter of elements that is no object is refused, and nothing of it is sent', async () => {
    const arrayFilters = [new Map([['e.code', clinic.secret('code-in-map')]])]
    await expect(
      people.native.updateOne({ _id: id }, { $set: { 'history.$[e].kind': 'x' } }, { arrayFilters }),
    ).rejects.toMatchObject({ code: 'ERR_ARGUMENT_INVALID' })
  })

  refuses(
    'save array stored as object',
    'elements whose names would be indexes',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'value-on-parent' },
    async () => {
      await people.Person.updateOne({ _id: id }, { $unset: { history: 1 } })
      await people.Person.collection.updateOne(
        { _id: id },
        { $set: { 'history.0': { note: clinic.secret('note-at-0') } } },
      )
      const found = await people.Person.findById(id)
      found.markModified('history')
      await found.save()
    },
  )
})
