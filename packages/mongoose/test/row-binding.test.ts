import { isEnvelope } from '@fieldseal/core/adapter'
import { hasMongo } from '@fieldseal/servers/vitest'
import { Schema, Types, type mongo } from 'mongoose'
import { describe, expect, it } from 'vitest'
import { useClinic, type LooseModel } from './support/clinic.ts'
import { protects, refuses } from './support/operation.ts'

type Native = Record<'updateOne', (...args: unknown[]) => Promise<unknown>>

describe.runIf(hasMongo())('the binding of values to their document', () => {
  const clinic = useClinic({ tenancy: 'single' })
  const note = { note: { type: String, encrypted: true }, seen: { type: Number, encrypted: true }, plan: String }
  const [one, two] = [new Types.ObjectId('64b0000000000000000000c1'), new Types.ObjectId('64b0000000000000000000c2')]
  const isBound = async (model: LooseModel, id: unknown, path = 'note') => {
    const document = (await clinic.stored(model)).find(({ _id }) => String(_id) === String(id))
    const envelope = (Reflect.get(Object(document), path) as mongo.Binary).value()
    expect(isEnvelope(envelope)).toBe(true)
    return (envelope[15] as number) % 2 === 1
  }

  it('a value is bound where the whole _id is pinned, and where the document was read', async () => {
    const Note = clinic.model(new Schema(note))
    await Note.create([
      { _id: one, note: clinic.secret('note-one'), seen: 1, plan: 'x' },
      { _id: two, note: 'note-two', seen: 1, plan: 'x' },
    ])
    const native = Note.collection as unknown as Native
    const cases: [string, () => Promise<unknown>, boolean][] = [
      ['insert', async () => undefined, true],
      [
        'by plain path',
        () =>
          Note.updateOne({ plan: 'x' }, { note: 'n' })
            .setOptions({ sort: { _id: 1 } })
            .exec(),
        false,
      ],
      ['by _id', () => Note.updateOne({ _id: one }, { note: 'n' }), true],
      ['many', () => Note.updateMany({}, { note: 'n' }), false],
      ['by $eq', () => native.updateOne({ _id: { $eq: one } }, { $set: { note: 'n' } }), true],
      ['by $in', () => native.updateOne({ _id: { $in: [one] } }, { $set: { note: 'n' } }), false],
      ['by $and', () => native.updateOne({ $and: [{ plan: 'x' }, { _id: one }] }, { $set: { note: 'n' } }), true],
      ['by $or', () => native.updateOne({ $or: [{ _id: one }] }, { $set: { note: 'n' } }), false],
      [
        'beside an edit',
        () => native.updateOne({ plan: 'x' }, { $set: { note: 'n' }, $inc: { seen: 1 } }, { sort: { _id: 1 } }),
        true,
      ],
      ['replaced', () => Note.replaceOne({ plan: 'x', _id: { $ne: two } }, { note: 'n', plan: 'x' }), false],
      ['replaced by _id', () => Note.replaceOne({ _id: one }, { note: 'n', plan: 'x' }), true],
      ['bulk', () => Note.bulkWrite([{ updateOne: { filter: { _id: one }, update: { note: 'n' } } }]), true],
      ['found and updated', () => Note.findOneAndUpdate({ plan: 'x', _id: one }, { note: 'n' }), true],
    ]
    for (const [how, write, bound] of cases) {
      await write()
      expect(await isBound(Note, one), how).toBe(bound)
      expect((await Note.findById(one)).note, how).toBeDefined()
    }
  })

  it('a bound value opens in its own document only, an unbound one in another of its path too', async () => {
    const Note = clinic.model(new Schema(note))
    await Note.create([
      { _id: one, note: clinic.secret('note-bound') },
      { _id: two, note: 'x' },
    ])
    const direct = clinic.connection.getClient().db(clinic.connection.name).collection(Note.collection.collectionName)
    const move = async () =>
      direct.updateOne({ _id: two }, { $set: { note: (await direct.findOne({ _id: one }))?.['note'] as unknown } })
    await move()
    await expect(Note.findById(two)).rejects.toMatchObject({ kind: 'corrupt' })
    await expect(Note.updateOne({ _id: two }, { note: 'written over' })).resolves.toMatchObject({ matchedCount: 1 })
    await Note.updateMany({}, { note: clinic.secret('note-unbound') })
    await move()
    expect(await Note.findById(two)).toMatchObject({ note: 'note-unbound' })
  })

  it('an _id that is no ObjectId is bound in its canonical form, or not at all', async () => {
    const ids: [unknown, unknown, boolean][] = [
      [String, 'abc', true],
      [Number, 7, true],
      [Number, 7.5, false],
      [BigInt, 2n ** 60n, true],
      [Schema.Types.UUID, 'b5a1f6de-3f7c-4ac3-9a2e-4f0a8b0b5f01', true],
      [Schema.Types.Mixed, 'abc', false],
    ]
    for (const [type, _id, bound] of ids) {
      const Note = clinic.model(new Schema({ ...note, _id: type as never }))
      await Note.create({ _id, note: clinic.secret('note-of-id'), seen: 1 })
      const [{ _id: stored } = {}] = await clinic.stored(Note)
      expect(await isBound(Note, stored), String(_id)).toBe(bound)
      await Note.updateOne({ _id }, { note: clinic.secret('note-of-id-2') })
      await Note.updateOne({ _id }, { $inc: { seen: 2 } })
      expect(await isBound(Note, stored), String(_id)).toBe(bound)
      expect(await Note.findOne({ _id }).lean()).toMatchObject({ note: 'note-of-id-2', seen: 3 })
    }
  })

  const required = () => clinic.model(new Schema(note, { encrypted: { bindRow: 'require' } }))
  refuses(
    'updateMany',
    'with bindRow: require, a value for documents that are not named',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'row-id-unknown' },
    () => required().updateMany({}, { note: clinic.secret('note-many') }),
  )
  refuses(
    'updateOne',
    'with bindRow: require, by anything but the _id',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'row-id-unknown' },
    () => required().updateOne({ plan: 'x' }, { note: clinic.secret('note-by-plan') }),
  )
  refuses(
    'updateOne upsert',
    'with bindRow: require, without the _id',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'row-id-unknown' },
    () => required().updateOne({ plan: 'x' }, { note: clinic.secret('note-upsert') }, { upsert: true }),
  )
  protects('updateOne', 'with bindRow: require, by the _id, and after reading the document', async () => {
    const Note = required()
    await Note.create({ _id: one, note: clinic.secret('note-required'), seen: 1, plan: 'x' })
    await Note.updateOne({ _id: one }, { note: clinic.secret('note-required-2') })
    await Note.updateOne({ plan: 'x' }, { $inc: { seen: 1 } })
    expect(await Note.findById(one).lean()).toMatchObject({ note: 'note-required-2', seen: 2 })
    expect([await isBound(Note, one), await isBound(Note, one, 'seen')]).toEqual([true, true])
  })
  it('with bindRow: never, nothing is bound, and a document may be copied', async () => {
    const Note = clinic.model(new Schema(note, { encrypted: { bindRow: 'never' } }))
    await Note.create({ _id: one, note: clinic.secret('note-never') })
    expect(await isBound(Note, one)).toBe(false)
    await Note.updateOne({ _id: one }, { note: 'note-never' })
    expect(await isBound(Note, one)).toBe(false)
    const direct = clinic.connection.getClient().db(clinic.connection.name).collection(Note.collection.collectionName)
    await direct.insertOne({ ...(await direct.findOne({ _id: one })), _id: two })
    expect(await Note.findById(two)).toMatchObject({ note: 'note-never' })
  })
})
