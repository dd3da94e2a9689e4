import { hasMongo } from '@fieldseal/servers/vitest'
import { Schema } from 'mongoose'
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { useClinic, type LooseModel } from './support/clinic.ts'
import { protects, refuses } from './support/operation.ts'

type Native = Record<'updateOne' | 'updateMany' | 'bulkWrite', (...args: unknown[]) => Promise<unknown>> & {
  find(filter: unknown): { toArray(): Promise<unknown[]> }
}

describe.runIf(hasMongo())('keyspaces of data subjects', () => {
  const clinic = useClinic({ tenancy: 'multi' })
  let Letter: LooseModel
  const as = <R>(tenant: string, run: () => R) => clinic.fieldseal.runAs({ tenant }, run)
  const a = <R>(run: () => R) => as('a', run)
  const native = () => Letter.collection as unknown as Native
  const letter = (id: number) => a(() => Letter.findOne({ _id: id, clinicId: 'a' }).lean())

  beforeAll(async () => {
    Letter = clinic.model(letterSchema())
    await a(() => Letter.init())
  })
  beforeEach(async () => {
    for (const tenant of ['a', 'b']) await as(tenant, () => Letter.deleteMany({}))
    // The other tenant's letter is the first that a filter without tenant would meet.
    await as('b', () =>
      Letter.create({ _id: 1, clinicId: 'b', patientId: 7, plan: 'p', text: clinic.secret('letter-of-b') }),
    )
    await a(() =>
      Letter.create([
        {
          _id: 11,
          clinicId: 'a',
          patientId: 7,
          plan: 'p',
          text: clinic.secret('letter-of-7'),
          pages: 1,
          tags: [clinic.secret('tag-7')],
        },
        { _id: 12, clinicId: 'a', patientId: 8, plan: 'p', text: clinic.secret('letter-of-8'), pages: 2 },
      ]),
    )
  })

  protects('save', 'a loaded document of a data subject, whose keyspace only the document tells', async () => {
    const loaded = await a(() => Letter.findById(11))
    loaded.text = clinic.secret('letter-saved')
    loaded.tags.push(clinic.secret('tag-saved'))
    await a(() => loaded.save())
    loaded.pages += 1
    await a(() => loaded.save())
    expect(await letter(11)).toMatchObject({ text: 'letter-saved', pages: 2, tags: ['tag-7', 'tag-saved'] })
  })

  protects('updateOne', 'reads whose document it is where the filter does not say it', async () => {
    await a(() => Letter.updateOne({ _id: 11 }, { text: clinic.secret('by-id') }))
    await a(() => Letter.updateOne({ plan: 'p', patientId: { $gt: 7 } }, { text: clinic.secret('by-range') }))
    await a(() => Letter.updateOne({ tags: 'tag-7' }, { $inc: { pages: 4 } }))
    await a(() =>
      Letter.updateOne({ plan: 'p' }, { text: clinic.secret('of-the-last') }).setOptions({ sort: { _id: -1 } }),
    )
    expect(await letter(11)).toMatchObject({ text: 'by-id', pages: 5 })
    expect(await letter(12)).toMatchObject({ text: 'of-the-last' })
    expect(
      await a(() =>
        Letter.findOneAndUpdate(
          { plan: 'p', _id: 12 },
          { answer: clinic.secret('answer-shown') },
          { returnDocument: 'after' },
        ),
      ),
    ).toMatchObject({
      answer: 'answer-shown',
      text: 'of-the-last',
    })
    expect(await a(() => Letter.updateOne({ _id: 999 }, { text: clinic.secret('of-nobody') }))).toMatchObject({
      matchedCount: 0,
    })
    expect(
      await a(() => Letter.findOneAndUpdate({ _id: 999 }, { text: 'of-nobody' }, { includeResultMetadata: true })),
    ).toMatchObject({ value: null })
    expect(await as('b', () => Letter.findById(1).lean())).toMatchObject({ text: 'letter-of-b' })
  })

  protects('updateMany', 'of one data subject, and plain paths of all', async () => {
    await a(() => Letter.updateMany({ patientId: 7 }, { answer: clinic.secret('answer-to-7') }))
    await a(() => Letter.updateMany({}, { plan: 'q' }))
    expect(await letter(11)).toMatchObject({ answer: 'answer-to-7', plan: 'q' })
    expect(await letter(12)).toMatchObject({ text: 'letter-of-8', plan: 'q' })
  })

  protects('updateOne upsert', 'that names the data subject', async () => {
    await a(() => Letter.updateOne({ _id: 13, patientId: 9 }, { text: clinic.secret('upserted-9') }, { upsert: true }))
    await a(() => Letter.updateOne({ _id: 11 }, { text: clinic.secret('upsert-of-known') }, { upsert: true }))
    expect(await letter(13)).toMatchObject({ patientId: 9, text: 'upserted-9' })
    expect(await letter(11)).toMatchObject({ patientId: 7, text: 'upsert-of-known' })
  })

  protects('replaceOne', 'a document under the keys of the new data subject', async () => {
    await a(() => Letter.replaceOne({ _id: 11 }, { clinicId: 'a', patientId: 8, text: clinic.secret('now-of-8') }))
    expect(await letter(11)).toMatchObject({ patientId: 8, text: 'now-of-8' })
  })

  protects('bulkSave', 'documents of several data subjects', async () => {
    const letters = await a(() => Letter.find({ clinicId: 'a' }).sort('_id'))
    for (const each of letters) each.text = clinic.secret(`bulk-saved-${each._id}`)
    await a(() =>
      Letter.bulkSave([
        ...letters,
        new Letter({ _id: 14, clinicId: 'a', patientId: 10, text: clinic.secret('bulk-new') }),
      ]),
    )
    expect(
      (await a(() => Letter.find({ clinicId: 'a' }).sort('_id'))).map(({ text }: { text: string }) => text),
    ).toEqual(['bulk-saved-11', 'bulk-saved-12', 'bulk-new'])
  })

  refuses(
    'updateMany',
    'encrypted paths of several data subjects',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'keyspace-unknown' },
    () => a(() => Letter.updateMany({ plan: 'p' }, { text: clinic.secret('of-several') })),
  )
  refuses(
    'updateOne upsert',
    'that does not name the data subject',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'keyspace-unknown' },
    () => a(() => Letter.updateOne({ _id: 20 }, { text: clinic.secret('of-whom') }, { upsert: true })),
  )
  refuses('updateOne $set', 'another data subject', { code: 'ERR_WRITE_UNSUPPORTED', reason: 'key-change' }, () =>
    a(() => Letter.updateOne({ _id: 11, patientId: 7 }, { patientId: 8 })),
  )
  refuses('updateOne $inc', 'the data subject', { code: 'ERR_WRITE_UNSUPPORTED', reason: 'key-change' }, () =>
    a(() => Letter.updateOne({ _id: 11 }, { $inc: { patientId: 1 } })),
  )
  refuses(
    'updateMany $set',
    'the data subject of documents that do not say theirs',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'key-change' },
    () => a(() => Letter.updateMany({}, { patientId: 8 })),
  )
  refuses(
    'updateMany pipeline',
    'writes the data subject',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'pipeline-update' },
    () => a(() => native().updateMany({}, [{ $set: { patientId: 8 } }])),
  )
  refuses(
    'save',
    'a document that was given to another data subject',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'key-change' },
    () =>
      a(async () => {
        const loaded = await Letter.findById(11)
        loaded.patientId = 8
        await loaded.save()
      }),
  )
  protects('bulkWrite', 'updates of documents that operations before them make, in their turn', async () => {
    const result = await a(() =>
      Letter.bulkWrite([
        { insertOne: { document: { _id: 15, clinicId: 'a', patientId: 7, text: clinic.secret('bulk-insert') } } },
        { updateOne: { filter: { _id: 15 }, update: { answer: clinic.secret('bulk-update') } } },
        {
          replaceOne: {
            filter: { _id: 11 },
            replacement: { clinicId: 'a', patientId: 8, text: clinic.secret('bulk-to-8') },
          },
        },
        { updateOne: { filter: { _id: 11 }, update: { answer: clinic.secret('bulk-of-8') } } },
        { updateOne: { filter: { _id: 16, patientId: 9 }, update: { text: clinic.secret('bulk-up') }, upsert: true } },
        {
          updateOne: {
            filter: { patientId: { $gte: 9 } },
            update: { $set: { answer: clinic.secret('bulk-of-9') }, $inc: { pages: 1 } },
          },
        },
      ] as never),
    )
    expect(result).toMatchObject({ insertedCount: 1, matchedCount: 4, upsertedCount: 1, upsertedIds: { 4: 16 } })
    expect(await letter(15)).toMatchObject({ text: 'bulk-insert', answer: 'bulk-update' })
    expect(await letter(11)).toMatchObject({ text: 'bulk-to-8', answer: 'bulk-of-8', patientId: 8 })
    expect(await letter(16)).toMatchObject({ text: 'bulk-up', answer: 'bulk-of-9', pages: 1 })
  })

  protects('bulkWrite', 'updates that name the data subject, or whose documents no other operation makes', async () => {
    await a(() =>
      Letter.bulkWrite([
        { insertOne: { document: { _id: 15, clinicId: 'a', patientId: 7, text: clinic.secret('bulk-insert-ok') } } },
        { updateOne: { filter: { _id: 15, patientId: 7 }, update: { answer: clinic.secret('bulk-answer') } } },
        { updateOne: { filter: { _id: 12 }, update: { text: clinic.secret('bulk-12') } } },
        { updateOne: { filter: { _id: 999 }, update: { text: clinic.secret('bulk-nobody') } } },
      ]),
    )
    expect(await letter(15)).toMatchObject({ text: 'bulk-insert-ok', answer: 'bulk-answer' })
    expect(await letter(12)).toMatchObject({ text: 'bulk-12' })
  })

  it('updates and upserts that name the data subject are sent together, whatever else the bulk write makes', async () => {
    const sent: string[] = []
    const note = ({ commandName }: { readonly commandName: string }) => sent.push(commandName)
    clinic.connection.getClient().on('commandStarted', note)
    const letters = Array.from({ length: 20 }, (_, n) => ({ _id: 100 + n, clinicId: 'a', patientId: n % 3 }))
    await a(() =>
      Letter.bulkWrite([
        ...letters.slice(0, 10).map((document) => ({ insertOne: { document } })),
        ...letters.map(({ _id, patientId }) => ({
          updateOne: { filter: { _id, patientId }, update: { text: `bulk-together-${_id}` }, upsert: true },
        })),
      ]),
    )
    clinic.connection.getClient().off('commandStarted', note)
    expect(sent.filter((name) => ['find', 'insert', 'update'].includes(name))).toEqual(['insert', 'update'])
    expect(
      await a(() =>
        Letter.find({ clinicId: 'a', _id: { $gte: 100 } })
          .sort('_id')
          .lean(),
      ),
    ).toMatchObject(letters.map(({ _id, patientId }) => ({ _id, patientId, text: `bulk-together-${_id}` })))
  })

  it('an update meets what an operation before it has inserted without an _id', async () => {
    const result = await a(() =>
      native().bulkWrite([
        { insertOne: { document: { clinicId: 'a', patientId: 77, text: clinic.secret('bulk-no-id') } } },
        { updateOne: { filter: { patientId: { $gte: 77 } }, update: { $set: { answer: clinic.secret('bulk-met') } } } },
      ]),
    )
    expect(result).toMatchObject({ insertedCount: 1, matchedCount: 1 })
    const [made] = await a(() => native().find({ clinicId: 'a', patientId: 77 }).toArray())
    expect(made).toMatchObject({ text: 'bulk-no-id', answer: 'bulk-met' })
  })

  it('an update of a document that does not exist sends nothing of the arrayFilters', async () => {
    const update = { $set: { 'parts.$[p].body': clinic.secret('part-body') } }
    const options = { arrayFilters: [{ 'p.code': clinic.secret('part-code') }], hint: { _id: 1 } }
    expect(await a(() => native().updateOne({ _id: 999 }, update, options))).toMatchObject({ matchedCount: 0 })
    expect(
      await a(() => Letter.findOneAndUpdate({ _id: 999 }, update, { arrayFilters: options.arrayFilters })),
    ).toBeNull()
    await a(() => native().bulkWrite([{ updateOne: { filter: { _id: 999 }, update, ...options } }]))
    const edit = { ...update, $inc: { pages: 1 } }
    expect(await a(() => native().updateOne({ _id: 999 }, edit, options))).toMatchObject({ matchedCount: 0 })
  })

  it('a system context knows each document by its _id', async () => {
    await clinic.fieldseal.runAsSystem({ reason: 'test' }, async () => {
      const letters = await Letter.find({}).sort('_id')
      for (const each of letters) {
        each.answer = clinic.secret(`system-${each._id}`)
        await each.save()
      }
      await Letter.updateOne({ _id: 11 }, { $inc: { pages: 9 } })
    })
    expect(await letter(11)).toMatchObject({ answer: 'system-11', pages: 10 })
    expect(await as('b', () => Letter.findById(1).lean())).toMatchObject({ answer: 'system-1' })
  })

  it('writers that replace a document with another data subject never lose the save of a third', async () => {
    await Promise.all(
      Array.from({ length: 12 }, (_, n) =>
        n % 2 === 0
          ? a(() => Letter.replaceOne({ _id: 11 }, { clinicId: 'a', patientId: n, text: `of-${n}` }))
          : a(() =>
              Letter.updateOne(
                { _id: 11 },
                {
                  $set: { [`answers.n${n}`]: 'kept' },
                  answer: `answer-${n}`,
                  ...(n % 3 === 0 ? { $inc: { pages: 1 } } : {}),
                },
              ),
            ).then(({ matchedCount }) => expect(matchedCount).toBe(1)),
      ),
    )
    expect((await letter(11)).text).toMatch(/^of-/)
  })

  it('a data subject is one whether its uuid is written as it is or as text', async () => {
    const Parcel = clinic.model(
      new Schema(
        { clinicId: String, personId: Schema.Types.UUID, content: { type: String, encrypted: true } },
        { encrypted: { tenantBy: 'clinicId', keyspace: { per: 'personId', of: 'person' } } },
      ),
    )
    const personId = 'B5A1F6DE-3F7C-4AC3-9A2E-4F0A8B0B5F01'
    await a(() => Parcel.create({ clinicId: 'a', personId, content: clinic.secret('books') }))
    await a(() => Parcel.updateMany({ personId: personId.toLowerCase() }, { content: clinic.secret('more-books') }))
    expect(await a(() => Parcel.find({ clinicId: 'a', personId }).lean())).toMatchObject([{ content: 'more-books' }])
  })
})

function letterSchema() {
  return new Schema(
    {
      _id: Number,
      clinicId: { type: String, required: true },
      patientId: { type: Number, required: true },
      plan: String,
      answers: Object,
      text: { type: String, encrypted: true },
      answer: { type: String, encrypted: true },
      pages: { type: Number, encrypted: true },
      tags: [{ type: String, encrypted: { blindIndex: true } }],
      parts: [
        {
          _id: false,
          code: { type: String, encrypted: { blindIndex: true } },
          body: { type: String, encrypted: true },
        },
      ],
    },
    { encrypted: { tenantBy: 'clinicId', keyspace: { per: 'patientId', of: 'patient' } } },
  )
}
