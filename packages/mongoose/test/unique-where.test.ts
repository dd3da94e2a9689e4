import { hasMongo } from '@fieldseal/servers/vitest'
import { Schema } from 'mongoose'
import { describe, expect, it } from 'vitest'
import { mongooseSource } from '../src/index.ts'
import { useClinic } from './support/clinic.ts'
import { protects } from './support/operation.ts'

const duplicate = { code: 11000 }

describe.runIf(hasMongo())('unique where', () => {
  const clinic = useClinic({ tenancy: 'multi' })
  const as = <R>(tenant: string, fn: () => Promise<R>) => clinic.fieldseal.runAs({ tenant }, fn)
  const accounts = (where: object, more: object = {}) =>
    clinic.model(
      new Schema(
        {
          clinic: String,
          email: { type: String, encrypted: { blindIndex: { normalize: 'email', unique: { where } } } },
          ...more,
        },
        { encrypted: { tenantBy: 'clinic' } },
      ),
    )

  protects('unique', 'a document that is marked as deleted gives its value free until it comes back', async () => {
    const Model = accounts({ deletedAt: null }, { deletedAt: Date })
    await Model.init()
    const email = 'a@example.org'
    const [first] = await as('a', async () => [await Model.create({ clinic: 'a', email })])
    await expect(as('a', () => Model.create({ clinic: 'a', email, deletedAt: null }))).rejects.toMatchObject(duplicate)
    await as('a', () => Model.updateOne({ _id: first._id, clinic: 'a' }, { deletedAt: new Date() }).exec())
    await as('a', () => Model.create({ clinic: 'a', email: 'A@example.org' }))
    const restore = as('a', () => Model.updateOne({ _id: first._id, clinic: 'a' }, { $unset: { deletedAt: 1 } }).exec())
    await expect(restore).rejects.toMatchObject(duplicate)
    await as('b', () => Model.create({ clinic: 'b', email }))
    expect(await as('a', () => Model.countDocuments({ clinic: 'a', email }).exec())).toBe(2)
  })

  protects('unique', 'texts, numbers and booleans say which documents count', async () => {
    const counted = { state: 'open', rank: 1, 'flags.active': true }
    const Model = accounts(counted, {
      state: { type: String, lowercase: true, enum: ['open', 'new'] },
      rank: Number,
      flags: { active: Boolean },
    })
    await Model.init()
    const own = { clinic: 'a', email: 'a@example.org', state: 'open', rank: 1, flags: { active: true } }
    await as('a', () => Model.create(own))
    for (const other of [{ state: 'new' }, { rank: 2 }, { flags: {} }, { clinic: 'a', rank: null }])
      await as('a', () => Model.create({ ...own, ...other }))
    await expect(as('a', () => Model.create(own))).rejects.toMatchObject(duplicate)
    const source = mongooseSource(clinic.connection)
    const map = source.models.find(({ id }) => id === Model.collection.name) ?? expect.unreachable()
    const outside: number[] = []
    for await (const page of source.pages(map, { size: 10 })) outside.push(...page.map((row) => row.outside?.size ?? 0))
    expect(outside).toEqual([0, 1, 1, 1, 1])
  })

  protects(
    'syncIndexes',
    'both slots have an index for look-ups and a unique one, and nothing changes any more',
    async () => {
      const Model = accounts({ deletedAt: null }, { deletedAt: Date })
      await Model.init()
      const indexes = (await Model.listIndexes()) as Record<string, unknown>[]
      for (const slot of ['b', 'n']) {
        const token = { [`email.${slot}`]: { $exists: true } }
        expect(indexes.find(({ name }) => name === `email.${slot}_1`)).toMatchObject({ partialFilterExpression: token })
        expect(indexes.find(({ name }) => name === `email.${slot}_1_clinic_1_deletedAt_1`)).toMatchObject({
          unique: true,
          partialFilterExpression: { deletedAt: null, ...token },
        })
      }
      expect(await Model.syncIndexes()).toEqual([])
      expect(await Model.diffIndexes()).toEqual({ toDrop: [], toCreate: [] })
      const source = mongooseSource(clinic.connection)
      const map = source.models.find(({ id }) => id === Model.collection.name) ?? expect.unreachable()
      expect(await source.inspect(map)).toEqual([])
      await clinic.direct(Model).dropIndex('email.b_1_clinic_1_deletedAt_1')
      const keys = { 'email.b': 1, clinic: 1, deletedAt: 1 } as const
      await clinic.direct(Model).createIndex(keys, {
        unique: true,
        partialFilterExpression: { 'email.b': { $exists: true } },
      })
      expect(await source.inspect(map)).toMatchObject([
        { problem: `index ${JSON.stringify(keys)} is for other documents` },
      ])
    },
  )

  it.each([
    ['an unknown path', { gone: null }, {}],
    ['an encrypted path', { note: null }, { note: { type: String, encrypted: true } }],
    ['a path below an encrypted one', { 'note.text': null }, { note: { type: {}, encrypted: true } }],
    ['a path in an array', { 'items.gone': null }, { items: [{ gone: Date }] }],
    ['an array', { items: null }, { items: [String] }],
    ['a path in a Map', { 'phones.home': null }, { phones: { type: Map, of: String } }],
    ['a value of another type', { rank: '1' }, { rank: Number }],
    ['a text for an ObjectId', { owner: '000000000000000000000000' }, { owner: Schema.ObjectId }],
    ['a nested document', { meta: null }, { meta: { gone: Date } }],
    ['a text that a setter changes', { state: 'Open' }, { state: { type: String, lowercase: true } }],
    ['a text that its path never holds', { state: 'opne' }, { state: { type: String, enum: ['open', 'closed'] } }],
    ['an operator', { rank: { $gt: 1 } }, { rank: Number }],
  ])('%s is refused when the model is made', (_name, where, more) => {
    expect(() => accounts(where, more)).toThrow(expect.objectContaining({ code: 'ERR_CONFIG_INVALID' }))
  })
})
