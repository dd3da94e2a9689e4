import { isFieldsealError } from '@fieldseal/core'
import type { FieldState } from '@fieldseal/core/adapter'
import { hasMongo } from '@fieldseal/servers/vitest'
import fc from 'fast-check'
import { Schema } from 'mongoose'
import { beforeAll, describe, expect, it } from 'vitest'
import type { LooseModel } from './support/clinic.ts'
import {
  CANARY,
  documents,
  documentsOf,
  idIn,
  operation,
  outcomeOf,
  perform,
  shapeOf,
} from './support/operations-twin.ts'
import { useStages, type Deploys } from './support/stages.ts'
import { usePlainConnection } from './support/twin.ts'

const [LANES, SEQUENCES] = [6, 600]

/** What a build that knows no Fieldseal writes at a path: where it finds it, and what it puts there. */
interface OldWrite {
  readonly path: string
  readonly at: string
  readonly id: number
  /** Undefined takes the value away. */
  readonly value: unknown
}

const OLD_PLACES: readonly (readonly [path: string, at: string, value: fc.Arbitrary<unknown>])[] = [
  ['s', 's_old', fc.constantFrom(`${CANARY}-a`, `${CANARY}-b`)],
  ['k', 'k_old', fc.constantFrom(0, 1, 2)],
  ['q', 'q', fc.constant(`${CANARY}-a`)],
  ['inner.y', 'inner.y_old', fc.constant(`${CANARY}-a`)],
  ['subs.0.note', 'subs.0.note_old', fc.constantFrom(`${CANARY}-a`, `${CANARY}-c`)],
  ['m.x', 'm.x', fc.constant(`${CANARY}-a`)],
  ['c', 'c_old', fc.constant({ a: 1 })],
  ['l', 'l_old', fc.constantFrom([1], [])],
]

/** Once values are encrypted it cannot take them away any more. */
function oldWrites(state: FieldState): fc.Arbitrary<OldWrite> {
  const gone = state === 'plaintext' ? [fc.constant(null), fc.constant(undefined)] : []
  return fc.oneof(
    ...OLD_PLACES.map(([path, at, value]) =>
      fc.record({
        path: fc.constant(path),
        at: fc.constant(at),
        id: fc.constantFrom(1, 2, 3),
        value: fc.oneof(value, ...gone),
      }),
    ),
  )
}

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

  async function writeAsBefore({ path, at, id, value }: OldWrite, own: number): Promise<void> {
    const isThere = path.startsWith('subs.') ? { 'subs.0': { $exists: true } } : {} // an index of no array becomes a name
    const filter = { _id: idIn(own, id), ...isThere } as never
    const change = (place: string) => (value === undefined ? { $unset: { [place]: 1 } } : { $set: { [place]: value } })
    await stages.direct(deploys).updateOne(filter, change(at))
    await past.connection.collection(plain.collection.collectionName).updateOne(filter, change(path))
  }

  it.each([
    ['plaintext', ['plaintext']],
    ['migrating', ['plaintext', 'migrating']],
  ] as const)(
    'ends in the same results and documents in state %s, or is refused and changes nothing',
    async (state, writers) => {
      const seed = Math.floor(Math.random() * 2 ** 31)
      const counts = { done: 0, refused: 0, failed: 0, partial: 0 }
      const withOldWrites = new Set<number>()
      const staged = deploys[state]
      const alike = async (own: number) => {
        const [here, there] = await Promise.all([staged, plain].map((model) => documentsOf(model, own)))
        expect(here).toEqual(there)
      }
      const property = fc.asyncProperty(
        documents,
        fc.array(fc.oneof({ weight: 3, arbitrary: operation }, { weight: 1, arbitrary: oldWrites(state) }), {
          minLength: 1,
          maxLength: 4,
        }),
        async (first, work) => {
          const own = ++lane // documents of an earlier sequence are out of reach
          const begun = first.map((document, at) => ({ ...document, _id: idIn(own, at + 1), lane: own }))
          await plain.insertMany(begun as never)
          for (const [at, document] of begun.entries())
            await deploys[writers[at % writers.length] ?? state].insertMany([document] as never)
          await alike(own)
          for (const each of work) {
            if ('at' in each) {
              await writeAsBefore(each, own)
              withOldWrites.add(own)
              await alike(own)
              continue
            }
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
      const ours = { lane: { $nin: [...withOldWrites] } }
      for (const [path, old] of [
        ['s.c', 's_old'],
        ['k.c', 'k_old'],
        ['c', 'c_old'],
        ['l', 'l_old'],
        ['inner.y', 'inner.y_old'],
      ] as const)
        expect(await direct.countDocuments({ ...ours, [path]: { $type: 'binData' }, [old]: { $exists: true } })).toBe(0)
      if (state === 'plaintext') expect(await direct.countDocuments({ 's.c': { $exists: true } })).toBe(0)
    },
    180_000,
  )
})
