import { createFieldseal, type BlindIndexOptions } from '@fieldseal/core'
import {
  attach,
  type BlindIndex,
  changeIndex,
  type IndexChange,
  type RecordSource,
  tokenRows,
  verifyRows,
} from '@fieldseal/core/adapter'
import { hasMongo, useMongoDatabase } from '@fieldseal/servers/vitest'
import { fakeClock, fakeKms } from '@fieldseal/testkit'
import mongoose, { Schema } from 'mongoose'
import { afterEach, describe, expect, it } from 'vitest'
import { fieldsealPlugin, mongoKeyStore, mongooseSource } from '../src/index.ts'
import type { LooseModel } from './support/clinic.ts'

function schema(next: Partial<BlindIndexOptions>): Schema {
  const made = new Schema(
    {
      clinicId: { type: String, required: true },
      points: Number,
      email: { type: String, encrypted: { blindIndex: { normalize: 'trim', unique: true, ...next } } },
      codes: [{ _id: false, code: { type: String, encrypted: { blindIndex: { ...next } } }, at: Number }],
    },
    { encrypted: { tenantBy: 'clinicId' }, collection: 'members' },
  )
  made.index({ points: 1, email: 1 }, { name: 'by_points' })
  return made
}
const NEXT: Partial<BlindIndexOptions> = { next: { normalize: 'lower', bits: 192 } }

type Change = IndexChange | 'fill'

/** What becomes of the indexes, in order, and in which slots values then have tokens. */
const STAGES: readonly (readonly [Change | undefined, readonly string[]])[] = [
  [undefined, ['b']],
  ['begin', ['b', 'n']],
  ['fill', ['b', 'n']],
  ['look-up-new', ['b', 'n']],
  ['leave-old', ['n']],
  ['fill', ['n']], // clears
]

/** A process of the application. Time stands still: it reads records anew only when it is told to. */
interface App {
  readonly fieldseal: ReturnType<typeof createFieldseal<'multi'>>
  readonly Member: LooseModel
  readonly source: RecordSource
  readonly indexes: readonly BlindIndex[]
  as<R>(fn: () => R): R
  close(): Promise<void>
}

describe.runIf(hasMongo())('indexes on their way', () => {
  const database = useMongoDatabase()
  const apps: App[] = []
  afterEach(async () => {
    // Documents of one application are nothing to the next.
    for (const { Member } of apps.slice(0, 1)) await Member.db.dropCollection('members')
    for (const app of apps.splice(0)) await app.close()
  })
  async function start(app: string, kms: ReturnType<typeof fakeKms>, next: Partial<BlindIndexOptions>): Promise<App> {
    const fieldseal = createFieldseal({
      app,
      tenancy: 'multi',
      keyStore: mongoKeyStore(database.uri),
      keys: { cmks: [kms.cmk('one')] },
      clock: fakeClock(),
    })
    const own = new mongoose.Mongoose()
    own.plugin(fieldsealPlugin as never, { fieldseal })
    await own.connect(database.uri, { monitorCommands: true })
    const Member = own.model(`Member`, schema(next)) as never as LooseModel
    await Member.init()
    const source = mongooseSource(own.connection)
    const started: App = {
      fieldseal,
      Member,
      source,
      indexes: source.models[0]?.indexes ?? [],
      as: (fn) => fieldseal.runAs({ tenant: 't' }, fn),
      async close() {
        await own.disconnect()
        await fieldseal.close()
      },
    }
    apps.push(started)
    return started
  }

  async function apply({ fieldseal, source, indexes, as }: App, change: Change | undefined): Promise<void> {
    if (change === undefined) return
    if (change !== 'fill') {
      for (const index of indexes) await changeIndex(fieldseal, { index, tenant: 't' }, change)
      return
    }
    const host = attach(fieldseal, { name: 'test', ormVersion: '0' })
    const map = source.models[0] ?? expect.unreachable()
    await as(async () => {
      const context = host.capture()
      for await (const page of source.pages(map, { size: 2, tokens: true })) {
        const rows = page.map(({ occurrences = [], columns, tokens }) => ({
          row: { map, facts: map.facts(columns, context), cells: occurrences },
          tokens,
        }))
        const outcomes = await tokenRows(fieldseal, rows, context)
        const patches = outcomes.flatMap((outcome, at) => {
          if ('error' in outcome) throw outcome.error
          return outcome.cells.length === 0 ? [] : [{ key: page[at]?.key, cells: outcome.cells }]
        })
        expect(await source.convert?.(map, patches)).toEqual(patches.map(() => 'updated'))
      }
    })
  }

  async function verify({ fieldseal, source, as }: App): Promise<void> {
    const host = attach(fieldseal, { name: 'test', ormVersion: '0' })
    const map = source.models[0] ?? expect.unreachable()
    await as(async () => {
      const context = host.capture()
      for await (const page of source.pages(map, { size: 50, tokens: true })) {
        const rows = page.map(({ occurrences = [], columns, tokens }) => ({
          row: { map, facts: map.facts(columns, context), cells: occurrences },
          tokens,
        }))
        for (const { problems } of await verifyRows(fieldseal, rows, context)) expect(problems).toEqual([])
      }
    })
  }

  const direct = ({ Member }: App) => Member.db.collection('members')
  const slotsOf = async (app: App, _id: unknown) => {
    const client = await mongoose.createConnection(database.uri).asPromise()
    try {
      const found = await client.collection('members').findOne({ _id: _id as never })
      const slots = (leaf: unknown) =>
        Object.keys(Object(leaf))
          .filter((name) => name !== 'c')
          .toSorted()
      const { email, codes = [] } = (found ?? {}) as { email?: unknown; codes?: { code: unknown }[] }
      expect(direct(app)).toBeDefined()
      return { email: slots(email), codes: codes.map(({ code }) => slots(code)) }
    } finally {
      await client.close()
    }
  }

  let names = 0

  /** What one process writes the other one finds, refuses and overwrites. */
  async function together(writer: App, reader: App): Promise<void> {
    const [email, other, code] = [`one-${++names}@x.org`, `two-${names}@x.org`, `code-${names}`]
    const own = { clinicId: 't' }
    const codes = [
      { code: `${code}-a`, at: 1 },
      { code, at: 2 },
    ]
    const { _id } = await writer.as(() => writer.Member.create({ ...own, points: 1, email, codes }))
    const { Member } = reader
    await reader.as(async () => {
      expect(await Member.findOne({ ...own, email: ` ${email}` }).lean()).toMatchObject({ _id, email })
      expect(await Member.find({ ...own, email: { $in: [other, email] } }).lean()).toMatchObject([{ _id }])
      expect(
        await Member.find({ ...own, email })
          .hint({ email: 1, clinicId: 1 })
          .lean(),
      ).toMatchObject([{ _id }])
      expect((await Member.find({ ...own, email: { $ne: email } }).lean()).map((one) => String(one._id))).not.toContain(
        String(_id),
      )
      expect(await Member.countDocuments({ ...own, 'codes.code': code })).toBe(1)
      expect(await Member.find({ ...own, codes: { $elemMatch: { code, at: 2 } } }).lean()).toHaveLength(1)
      expect(await Member.find({ ...own, codes: { $elemMatch: { code, at: 1 } } }).lean()).toHaveLength(0)
      const named = Member.find({ ...own, email })
        .hint('email.b_1_clinicId_1')
        .lean()
      expect(await named).toMatchObject([{ _id }])
      const pipeline = [{ $match: { ...own, email } }]
      expect(await Member.aggregate(pipeline)).toMatchObject([{ _id, email }])
      for (const hint of ['by_points', 'by_points_next']) {
        expect(
          await Member.find({ ...own, email })
            .hint(hint)
            .lean(),
        ).toMatchObject([{ _id }])
        expect(await Member.countDocuments({ ...own, email }).hint(hint)).toBe(1)
        expect(await Member.updateOne({ ...own, email }, { $set: { points: 1 } }, { hint } as never)).toMatchObject({
          matchedCount: 1,
        })
      }
      await expect(
        Member.find({ ...own, email })
          .hint('made_by_hand')
          .lean(),
      ).rejects.toMatchObject({
        code: 'ERR_QUERY_UNSUPPORTED',
        details: { reason: 'hint' },
      })
      for (const hint of [{ email: 1, clinicId: 1 }, 'email.b_1_clinicId_1', 'by_points'])
        expect(await Member.aggregate(pipeline).hint(hint as never)).toMatchObject([{ _id, email }])
      expect(await Member.countDocuments({ ...own, email }).hint({ email: 1, clinicId: 1 })).toBe(1)
      await expect(Member.create({ ...own, points: 2, email })).rejects.toMatchObject({ code: 11000 })
      const upserted = await Member.updateOne({ ...own, email }, { $set: { points: 3 } }, { upsert: true })
      expect(upserted).toMatchObject({ matchedCount: 1, upsertedCount: 0 })
      await Member.updateOne(
        { ...own, _id },
        { $set: { 'codes.$[one].at': 5 } },
        { arrayFilters: [{ 'one.code': code }] },
      )
    })
    await writer.as(async () => {
      const { Member: Writer } = writer
      expect(await Writer.findOne({ ...own, email }).lean()).toMatchObject({ points: 3, codes: [{ at: 1 }, { at: 5 }] })
      await Writer.updateOne(
        { ...own, _id },
        { $set: { email: other }, $push: { codes: { code: `${code}-b`, at: 3 } } },
      )
      const upserted = await Writer.findOneAndUpdate(
        { ...own, email: `new ${email}` },
        { $set: { points: 9 } },
        { upsert: true, returnDocument: 'after' },
      )
      expect(upserted).toMatchObject({ email: `new ${email}`, points: 9 })
    })
    await reader.as(async () => {
      expect(await Member.findOne({ ...own, email }).lean()).toBeNull()
      expect(await Member.findOne({ ...own, email: other, 'codes.code': `${code}-b` }).lean()).toMatchObject({ _id })
      expect(await Member.deleteOne({ ...own, email: `new ${email}` })).toMatchObject({ deletedCount: 1 })
      await Member.updateOne({ ...own, _id }, { $set: { email: null } })
      expect(await Member.findOne({ ...own, email: other }).lean()).toBeNull()
    })
    expect(await slotsOf(writer, _id)).toMatchObject({ email: [] })
    await writer.as(() => writer.Member.deleteOne({ ...own, _id }))
  }

  it('are filled, asked and unique in every stage', async () => {
    const kms = fakeKms()
    const before = await start('alone', kms, {})
    const codes = [{ code: 'Old-a' }, { code: 'Old-b' }]
    await before.as(() =>
      before.Member.create([1, 2, 3].map((n) => ({ clinicId: 't', points: n, email: `Old-${n}`, codes }))),
    )
    const app = await start('alone', kms, NEXT)
    for (const [at, [change, slots]] of STAGES.entries()) {
      await apply(app, change)
      await together(app, app)
      await verify(app)
      const { _id } = await app.as(() =>
        app.Member.create({ clinicId: 't', email: `stage-${at}`, codes: [{ code: 'x' }, { code: 'y' }] }),
      )
      expect(await slotsOf(app, _id)).toEqual({ email: slots, codes: [slots, slots] })
      const find = (email: string) => app.as(() => app.Member.findOne({ clinicId: 't', email }).lean())
      for (const n of [1, 2, 3]) expect(await find(`Old-${n}`)).toMatchObject({ points: n })
      expect((await find('OLD-1')) === null, `${change}: spellings`).toBe(at < 3)
      const all = await app.as(() => app.Member.countDocuments({ clinicId: 't', 'codes.code': 'Old-b' }))
      expect(all).toBe(3)
    }
  }, 60_000)

  it('are one for processes of two stages that follow each other', async () => {
    const kms = fakeKms()
    const before = await start('pairs', kms, {})
    await before.as(() => before.Member.create({ clinicId: 't', points: 1, email: 'Old', codes: [{ code: 'Old' }] }))
    const [behind, ahead] = [await start('pairs', kms, NEXT), await start('pairs', kms, NEXT)]
    for (const [change] of STAGES) {
      await behind.as(() => behind.Member.findOne({ clinicId: 't', email: 'x', 'codes.code': 'x' })) // reads the stage before
      await apply(ahead, change)
      for (const [writer, reader] of [
        [behind, ahead],
        [ahead, behind],
      ] as const) {
        await together(writer, reader)
        const old = { clinicId: 't', email: 'Old', 'codes.code': 'Old' }
        expect(await reader.as(() => reader.Member.findOne(old).lean())).not.toBeNull()
        await verify(reader)
      }
      behind.fieldseal.purge('t') // the drain
    }
    before.fieldseal.purge('t')
    await expect(before.as(() => before.Member.findOne({ clinicId: 't', email: 'Old' }))).rejects.toMatchObject({
      code: 'ERR_INDEX_UNKNOWN',
    })
  }, 60_000)

  it('refuse a token that another document has already, and leave what somebody has changed', async () => {
    const kms = fakeKms()
    const before = await start('refused', kms, {})
    await before.as(() => before.Member.create(['Ada', 'ada', 'Bob'].map((email) => ({ clinicId: 't', email }))))
    const { fieldseal, source, indexes, as, Member } = await start('refused', kms, NEXT)
    for (const index of indexes) await changeIndex(fieldseal, { index, tenant: 't' }, 'begin')
    const host = attach(fieldseal, { name: 'test', ormVersion: '0' })
    const map = source.models[0] ?? expect.unreachable()
    await as(async () => {
      const context = host.capture()
      const patches = []
      for await (const page of source.pages(map, { size: 50, tokens: true }))
        for (const { key, occurrences = [], columns, tokens } of page) {
          const row = { map, facts: map.facts(columns, context), cells: occurrences }
          const [outcome] = await tokenRows(fieldseal, [{ row, tokens }], context)
          if (outcome !== undefined && 'cells' in outcome) patches.push({ key, cells: outcome.cells })
        }
      await Member.updateOne({ clinicId: 't', email: 'Bob' }, { $set: { email: 'Bob' } })
      const results = (await source.convert?.(map, patches)) ?? []
      expect(results.toSorted()).toEqual(['changed', 'refused', 'updated'])
      const sealing = patches.map(({ key, cells }) => ({
        key,
        cells: cells.map((cell) => ({ ...cell, after: null })),
      }))
      await expect(source.convert?.(map, sealing)).rejects.toMatchObject({ code: 'ERR_WRITE_UNSUPPORTED' })
    })
  }, 60_000)
})
