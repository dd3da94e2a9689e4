import { inspect } from 'node:util'
import { hasMongo } from '@fieldseal/servers/vitest'
import fc from 'fast-check'
import { Schema } from 'mongoose'
import { beforeAll, describe, expect, it } from 'vitest'
import { redactOperation } from '../src/index.ts'
import { type LooseModel, useClinic } from './support/clinic.ts'

const CANARY = 'canary-in-the-clear'
const text = { type: String, encrypted: true } as const

type Stage = Record<string, unknown>
/** What a stage is, and the paths of encrypted values after it. */
interface Made {
  readonly stage: Stage
  readonly sealed: readonly string[]
}
/** Makes a stage where encrypted values stand at these paths: of one of them, perhaps under a new name. */
type Maker = (one: string, name: string, sealed: readonly string[]) => Made

const SEALED = ['ssn', 'home.street', 'history.note', 'phones.work', 'visits.count']
/** New names: some that nobody has, and some that plain paths have. */
const NAMES = ['x', 'y.z', 'name', 'count', 'filter', 'home', 'visits.place', '_id', 'ssn2']

describe.runIf(hasMongo())('what a pipeline shows once it is redacted', () => {
  const clinic = useClinic({ tenancy: 'single' })
  let Person: LooseModel
  let Plain: LooseModel
  beforeAll(() => {
    Person = clinic.model(
      new Schema({
        name: String,
        count: Number,
        filter: { by: String },
        ssn: text,
        home: { street: text, city: String },
        history: [{ note: text }],
        phones: { type: Map, of: text },
        visits: [{ count: { type: Number, encrypted: true }, place: String }],
      }),
    )
    Plain = clinic.model(new Schema({ name: String, ssn: String }))
  })
  const from = () => Person.collection.collectionName

  const top = (path: string) => path.split('.')[0] ?? path
  const last = (path: string) => path.slice(path.lastIndexOf('.') + 1)
  const equals = (path: string) => ({ $eq: [`$${path}`, CANARY] })

  const conditions: ((path: string) => Stage)[] = [
    (path) => ({ [path]: CANARY }),
    (path) => ({ [path]: { $in: ['a', CANARY] } }),
    (path) => ({ [path]: { $not: { $gt: CANARY } } }),
    (path) => ({ $or: [{ name: 'x' }, { $and: [{ [path]: { $ne: CANARY } }] }] }),
    (path) => ({ [top(path)]: { $elemMatch: { [last(path)]: CANARY } } }),
    (path) => ({ [top(path)]: { [last(path)]: CANARY } }),
    (path) => ({ $expr: equals(path) }),
    (path) => ({ $expr: { $let: { vars: { v: `$${path}` }, in: { $in: ['$$v', [CANARY]] } } } }),
  ]
  const comparing: Maker[] = [
    ...conditions.map(
      (condition): Maker =>
        (one, _name, sealed) => ({ stage: { $match: condition(one) }, sealed }),
    ),
    (one, name, sealed) => ({ stage: { $addFields: { [name]: { $cond: [equals(one), 1, 0] } } }, sealed }),
    (one, _name, sealed) => ({ stage: { $redact: { $cond: [equals(one), '$$KEEP', '$$PRUNE'] } }, sealed }),
    (one) => ({ stage: { $bucket: { groupBy: `$${one}`, boundaries: ['', CANARY] } }, sealed: ['_id'] }),
    (one, _name, sealed) => ({ stage: { $fill: { output: { [one]: { value: CANARY } } } }, sealed }),
    (one, _name, sealed) => ({ stage: { $densify: { field: one, range: { bounds: ['', CANARY] } } }, sealed }),
    (one, _name, sealed) => ({ stage: { $geoNear: { query: { [one]: CANARY }, distanceField: 'd' } }, sealed }),
    (one, _name, sealed) => ({ stage: { $search: { text: { path: one, query: CANARY } } }, sealed }),
    (one, name, sealed) => ({
      stage: { $facet: { [last(name)]: [{ $match: { [one]: CANARY } }] } },
      sealed: sealed.map((path) => `${last(name)}.${path}`),
    }),
    (one, name, sealed) => ({
      stage: {
        $lookup: { from: 'x', let: { v: `$${one}` }, pipeline: [{ $match: { $expr: equals('$v') } }], as: name },
      },
      sealed,
    }),
    (_one, name, sealed) => ({
      stage: {
        $graphLookup: { from: from(), startWith: CANARY, connectFromField: 'name', connectToField: 'ssn', as: name },
      },
      sealed: [...sealed, `${name}.ssn`],
    }),
  ]
  const renaming: Maker[] = [
    (one, name) => ({ stage: { $project: { [name]: `$${one}` } }, sealed: [name] }),
    (one, name, sealed) => ({ stage: { $addFields: { [name]: { $toLower: `$${one}` } } }, sealed: [...sealed, name] }),
    (one, name, sealed) => ({
      stage: { $set: { [name]: { $getField: { field: last(one), input: `$${top(one)}` } } } },
      sealed: [...sealed, name],
    }),
    (one, name, sealed) => ({
      stage: { $addFields: { [name]: { $objectToArray: `$${top(one)}` } } },
      sealed: [...sealed, `${name}.v`],
    }),
    (one, name) => ({
      stage: { $group: { _id: `$${one}`, [last(name)]: { $push: `$${one}` } } },
      sealed: ['_id', last(name)],
    }),
    (_one, name, sealed) => ({
      stage: { $group: { _id: null, [last(name)]: { $push: '$$ROOT' } } },
      sealed: sealed.map((path) => `${last(name)}.${path}`),
    }),
    (one, name) => ({ stage: { $replaceRoot: { newRoot: { [name]: `$${one}` } } }, sealed: [name] }),
    (one) => ({ stage: { $replaceWith: `$${top(one)}` }, sealed: [last(one)] }),
    (one) => ({ stage: { $sortByCount: `$${one}` }, sealed: ['_id'] }),
    (one, name, sealed) => ({
      stage: { $unwind: { path: `$${top(one)}`, includeArrayIndex: last(name) } },
      sealed: sealed.filter((path) => top(path) !== last(name)),
    }),
    (one, name, sealed) => ({
      stage: { $setWindowFields: { output: { [name]: { $first: `$${one}` } } } },
      sealed: [...sealed, name],
    }),
    (one, name) => ({
      stage: { $bucketAuto: { groupBy: `$${one}`, buckets: 2, output: { [last(name)]: { $min: `$${one}` } } } },
      sealed: ['_id.min', last(name)],
    }),
    (_one, name, sealed) => ({
      stage: { $lookup: { from: from(), localField: 'name', foreignField: 'name', as: name } },
      sealed: [...sealed, ...SEALED.map((path) => `${name}.${path}`)],
    }),
    (one, name, sealed) => ({
      stage: { $lookup: { from: 'x', let: { v: `$${one}` }, pipeline: [{ $project: { v: '$$v' } }], as: name } },
      sealed: [...sealed, `${name}.v`],
    }),
    (_one, name, sealed) => ({
      stage: { $unionWith: { coll: from(), pipeline: [{ $project: { [name]: '$ssn' } }] } },
      sealed: [...sealed, name],
    }),
  ]
  const plain: Maker[] = [
    { $match: { name: 'plain' } },
    { $sort: { name: 1 } },
    { $limit: 5 },
    { $unset: 'nothing' },
    { $addFields: { upper: { $toUpper: '$name' } } },
    { $unwind: '$history' },
  ].map(
    (stage): Maker =>
      (_one, _name, sealed) => ({ stage, sealed }),
  )

  const step = fc.record({
    make: fc.oneof(...[renaming, plain, comparing].map((makers) => fc.constantFrom(...makers))),
    at: fc.nat(20),
    name: fc.constantFrom(...NAMES),
  })

  function pipelineOf(steps: readonly { make: Maker; at: number; name: string }[], first: readonly string[]): Stage[] {
    let sealed = first
    return steps.flatMap(({ make, at, name }) => {
      const one = sealed[at % sealed.length]
      if (one === undefined) return []
      const made = make(one, name, sealed)
      ;({ sealed } = made)
      return [made.stage]
    })
  }
  const texts = (value: unknown) => inspect(value, { depth: 20, maxArrayLength: null })

  it('has no constant that is compared with an encrypted value, whatever the stages before have made of it', () => {
    let compared = 0
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 6 }), fc.nat(3), (steps, wrapped) => {
        const pipeline = pipelineOf(steps, SEALED)
        if (texts(pipeline).includes(CANARY)) compared++
        const given = [
          pipeline,
          { pipeline, options: {} },
          { filter: { 'phones.work': CANARY }, update: pipeline },
          [{ updateOne: { filter: { name: 'x' }, update: pipeline } }],
        ][wrapped]
        expect(texts(redactOperation(Person, given))).not.toContain(CANARY)
      }),
      { numRuns: 3000 },
    )
    expect(compared).toBeGreaterThan(500)
  })

  it('nor one that is compared with an encrypted value of another collection', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 6 }), fc.constantFrom('people', 'name', 'a.b'), (steps, as) => {
        const brought = { $lookup: { from: from(), localField: 'name', foreignField: 'name', as } }
        const rest = pipelineOf(
          steps,
          SEALED.map((path) => `${as}.${path}`),
        )
        expect(texts(redactOperation(Plain, [brought, ...rest]))).not.toContain(CANARY)
      }),
      { numRuns: 1000 },
    )
  })
})
