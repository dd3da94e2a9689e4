import { isFieldsealError } from '@fieldseal/core'
import type { FieldState } from '@fieldseal/core/adapter'
import { hasMongo } from '@fieldseal/servers/vitest'
import fc from 'fast-check'
import { Schema } from 'mongoose'
import { beforeAll, describe, expect, it } from 'vitest'
import type { LooseModel } from './support/clinic.ts'
import { documents, documentsOf, idIn, operation, outcomeOf, perform, shapeOf } from './support/operations-twin.ts'
import { useStages, type Deploys } from './support/stages.ts'
import { usePlainConnection } from './support/twin.ts'

const [LANES, SEQUENCES] = [6, 600]

/** The shape of the twin, each value on its way: in place where it can be, beside where it must. */
function shapeIn(state: FieldState): Schema {
  const inPlace = { encrypted: { state } }
  const beside = (plaintextIn: string, more: object = {}) => ({ encrypted: { state, plaintextIn, ...more } })
  const searchable = (plaintextIn: string) => beside(plaintextIn, { blindIndex: true })
  return new Schema(
    {
      _id: Number,
      lane: { type: Number, index: true },
      label: String,
      plain: Number,
      s: { type: String, ...searchable('s_old') },
      q: { type: String, ...inPlace },
      n: { type: Number, ...inPlace },
      k: { type: Number, ...searchable('k_old') },
      tags: { type: [{ type: String, ...inPlace }], default: undefined },
      subs: {
        type: [new Schema({ at: Number, note: { type: String, ...searchable('note_old') } }, { _id: false })],
        default: undefined,
      },
      inner: { x: Number, y: { type: String, ...beside('inner.y_old') } },
      m: { type: Map, of: { type: String, ...inPlace } },
      c: { type: new Schema({ a: Number, b: String }, { _id: false }), ...beside('c_old') },
      l: { type: [Number], default: undefined, ...beside('l_old') },
    },
    { versionKey: false, minimize: false },
  )
}

describe.runIf(hasMongo())('random work on a model on its way from plaintext and on a plain one', () => {
  const stages = useStages('single')
  const past = usePlainConnection()
  let deploys: Deploys
  let plain: LooseModel
  let lane = 0
  beforeAll(async () => {
    deploys = stages.deploy(shapeIn)
    plain = past.connection.model('Plain', shapeOf(() => ({})) as never) as LooseModel
    for (const model of [deploys.plaintext, plain]) await model.createCollection()
  })

  it.each([
    ['plaintext', ['plaintext']],
    ['migrating', ['plaintext', 'migrating']],
  ] as const)(
    'ends in the same results and documents in state %s, or is refused and changes nothing',
    async (state, writers) => {
      const seed = Math.floor(Math.random() * 2 ** 31)
      const counts = { done: 0, refused: 0, failed: 0, partial: 0 }
      const staged = deploys[state]
      const alike = async (own: number) => {
        const [here, there] = await Promise.all([staged, plain].map((model) => documentsOf(model, own)))
        expect(here).toEqual(there)
      }
      const property = fc.asyncProperty(
        documents,
        fc.array(operation, { minLength: 1, maxLength: 3 }),
        async (first, work) => {
          const own = ++lane // documents of an earlier sequence are out of reach
          const begun = first.map((document, at) => ({ ...document, _id: idIn(own, at + 1), lane: own }))
          await plain.insertMany(begun as never)
          for (const [at, document] of begun.entries())
            await deploys[writers[at % writers.length] ?? state].insertMany([document] as never)
          await alike(own)
          for (const each of work) {
            const got = await outcomeOf(() => perform(staged, own, each))
            counts[got.kind]++
            if (got.kind === 'refused') {
              expect(isFieldsealError(got.error) && got.error.kind).toBe('refused')
              await alike(own)
              continue
            }
            if (got.kind === 'partial') return
            const expected = await outcomeOf(() => perform(plain, own, each))
            expect(got.kind, String(got.error ?? expected.error)).toBe(expected.kind)
            if (got.kind === 'done') expect(got.result).toEqual(expected.result)
          }
          await alike(own)
        },
      )
      await Promise.all(
        Array.from({ length: LANES }, async (_, at) => {
          await fc.assert(property, { numRuns: SEQUENCES / LANES, seed: seed + at })
        }),
      )
      expect(counts.refused).toBeLessThan(counts.done)
      const direct = stages.direct(deploys)
      for (const [path, old] of [
        ['s.c', 's_old'],
        ['k.c', 'k_old'],
        ['c', 'c_old'],
        ['l', 'l_old'],
        ['inner.y', 'inner.y_old'],
      ] as const)
        expect(await direct.countDocuments({ [path]: { $type: 'binData' }, [old]: { $exists: true } })).toBe(0)
      if (state === 'plaintext') expect(await direct.countDocuments({ 's.c': { $exists: true } })).toBe(0)
    },
    180_000,
  )
})
