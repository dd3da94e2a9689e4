import { attach, verifyRows } from '@fieldseal/core/adapter'
import { hasMongo } from '@fieldseal/servers/vitest'
import fc from 'fast-check'
import { Schema } from 'mongoose'
import { describe, expect, it } from 'vitest'
import { isFieldsealError } from '@fieldseal/core'
import { mongooseSource } from '../src/index.ts'
import { useClinic } from './support/clinic.ts'

const PATHS = ['a', 'b', 'c'] as const
const value = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom('x', 'y', 'z') },
  { weight: 1, arbitrary: fc.constant(null) },
)
const values = fc.dictionary(fc.constantFrom(...PATHS), value, { minKeys: 1 })
const operators = fc.record(
  {
    $set: fc.dictionary(fc.constantFrom('a', 'b', 'c', 'plain'), value, { minKeys: 1 }),
    $unset: fc.dictionary(fc.constantFrom(...PATHS), fc.constant(1), { minKeys: 1 }),
    $setOnInsert: values,
    $push: fc.constant({ list: 'x' }),
  },
  { requiredKeys: [] },
)
const filter = fc.record(
  { key: fc.constantFrom(1, 2, 3), a: fc.constantFrom('x', 'y'), b: fc.constantFrom('x', { $in: ['x', 'y'] }) },
  { requiredKeys: [] },
)
const operation = fc.oneof(
  fc.record({ kind: fc.constant('insert' as const), document: values }),
  fc.record({ kind: fc.constant('replace' as const), filter, document: values, upsert: fc.boolean() }),
  fc.record({
    kind: fc.constantFrom('one' as const, 'many' as const, 'modify' as const, 'bulk' as const),
    filter,
    update: operators,
    upsert: fc.boolean(),
  }),
)

describe.runIf(hasMongo())('compound indexes', () => {
  const clinic = useClinic({ tenancy: 'single' })

  it('whatever is written, tokens are those of the values that stand there, or the write is refused', {
    timeout: 120_000,
  }, async () => {
    const field = { type: String, encrypted: { blindIndex: true } }
    const Model = clinic.model(
      new Schema(
        { key: Number, plain: String, a: field, b: field, c: field, list: [{ type: String, encrypted: true }] },
        { versionKey: false, encrypted: { compoundIndexes: { ab: { of: ['a', 'b'] }, cab: { of: ['c', 'a', 'b'] } } } },
      ),
    )
    await Model.init()
    const source = mongooseSource(clinic.connection)
    const map = source.models.find(({ id }) => id === Model.collection.name) ?? expect.unreachable()
    const context = attach(clinic.fieldseal, { name: 'test', ormVersion: '0' }).capture()
    const outcomes = { written: 0, refused: 0 }

    async function run(one: typeof operation extends fc.Arbitrary<infer T> ? T : never): Promise<unknown> {
      if (one.kind === 'insert') return Model.collection.insertOne({ key: 1, ...one.document } as never)
      if (one.kind === 'replace')
        return Model.collection.replaceOne(one.filter as never, { key: 2, ...one.document } as never, {
          upsert: one.upsert,
        })
      const update = Object.keys(one.update).length === 0 ? { $set: { plain: 'p' } } : one.update
      const options = { upsert: one.upsert }
      if (one.kind === 'many') return Model.collection.updateMany(one.filter as never, update as never, options)
      if (one.kind === 'modify') return Model.collection.findOneAndUpdate(one.filter as never, update as never, options)
      if (one.kind === 'one') return Model.collection.updateOne(one.filter as never, update as never, options)
      return Model.collection.bulkWrite([{ updateOne: { filter: one.filter, update, ...options } }] as never)
    }

    await fc.assert(
      fc.asyncProperty(fc.array(operation, { minLength: 2, maxLength: 10 }), async (operations) => {
        await clinic.direct(Model).deleteMany({})
        for (const one of operations) {
          try {
            await run(one)
            outcomes.written++
          } catch (error) {
            const isConflict = Reflect.get(Object(error), 'code') === 40 // two operators on one path
            if (!isConflict && !isFieldsealError(error)) throw error
            outcomes.refused++
          }
        }
        const documents = await Model.find().lean().exec()
        const stored = new Map((await clinic.stored(Model)).map((each) => [String(each['_id']), each]))
        for (const { _id, a, b, c } of documents) {
          const has = (each: unknown) => each !== null && each !== undefined
          const expected = [...(has(a) && has(b) ? ['ab'] : []), ...(has(a) && has(b) && has(c) ? ['cab'] : [])]
          expect(Object.keys(stored.get(String(_id))?.['__fieldseal']?.t ?? {}).toSorted()).toEqual(expected)
        }
        for await (const page of source.pages(map, { size: 100, tokens: true })) {
          const rows = page.map((row) => ({
            row: { map, facts: map.facts(row.columns, context), cells: row.occurrences ?? [] },
            tokens: row.tokens,
          }))
          for (const { problems } of await verifyRows(clinic.fieldseal, rows, context)) expect(problems).toEqual([])
        }
      }),
      { numRuns: 200 },
    )
    expect(outcomes.written).toBeGreaterThan(outcomes.refused / 4)
    expect(outcomes.refused).toBeGreaterThan(0)
  })
})
