import { isFieldsealError } from '@fieldseal/core'
import fc from 'fast-check'
import { Schema } from 'mongoose'
import type { LooseModel } from './clinic.ts'
import type { Sealing } from './twin.ts'

/** Part of every text of an encrypted path. */
export const CANARY = 'the-canary'

/** Scalars, arrays, subdocuments, a Map and containers; searchable and not; some plain. */
export function shapeOf(seal: Sealing): Schema {
  const searchable = seal({ blindIndex: true })
  return new Schema(
    {
      _id: Number,
      lane: { type: Number, index: true },
      label: String,
      plain: Number,
      s: { type: String, ...searchable },
      q: { type: String, ...seal() },
      n: { type: Number, ...seal() },
      k: { type: Number, ...searchable },
      tags: { type: [{ type: String, ...searchable }], default: undefined },
      subs: {
        type: [new Schema({ at: Number, note: { type: String, ...searchable } }, { _id: false })],
        default: undefined,
      },
      inner: { x: Number, y: { type: String, ...seal() } },
      m: { type: Map, of: { type: String, ...seal() } },
      c: { type: new Schema({ a: Number, b: String }, { _id: false }), ...seal() },
      l: { type: [Number], default: undefined, ...seal() },
    },
    { versionKey: false, minimize: false },
  )
}

type Doc = Record<string, unknown>

export type Operation =
  | { readonly name: 'insertOne'; readonly id: number; readonly document: Doc }
  | {
      readonly name: 'updateOne' | 'updateMany' | 'upsert'
      readonly id: number
      readonly filter: Doc
      readonly update: Doc
    }
  | {
      readonly name: 'findOneAndUpdate'
      readonly id: number
      readonly filter: Doc
      readonly update: Doc
      readonly projection: Doc
      readonly after: boolean
    }
  | {
      readonly name: 'replaceOne' | 'findOneAndReplace'
      readonly id: number
      readonly filter: Doc
      readonly document: Doc
    }
  | { readonly name: 'deleteOne' | 'deleteMany' | 'findOneAndDelete'; readonly id: number; readonly filter: Doc }
  | { readonly name: 'find' | 'findOne'; readonly id: number; readonly filter: Doc; readonly projection: Doc }
  | { readonly name: 'count'; readonly filter: Doc }
  | { readonly name: 'save'; readonly id: number; readonly edits: readonly Edit[] }
  | { readonly name: 'bulkWrite'; readonly operations: readonly Operation[] }

type Edit = readonly [path: string, change: 'set' | 'push' | 'unset' | 'shift', value: unknown]

const text = fc.constantFrom(`${CANARY}-a`, `${CANARY}-b`, `${CANARY}-c`)
const number = fc.constantFrom(0, 1, 2, -3, 2.5)
const id = fc.constantFrom(1, 2, 3)
const sub = fc.record({ at: number, note: text }, { requiredKeys: ['at'] })
const list = <T>(of: fc.Arbitrary<T>) => fc.array(of, { maxLength: 3 })
const map = fc.dictionary(fc.constantFrom('x', 'y'), text, { maxKeys: 2, noNullPrototype: true })
const container = fc.record({ a: number, b: text }, { requiredKeys: [] })
const nullable = <T>(of: fc.Arbitrary<T>) =>
  fc.oneof({ weight: 5, arbitrary: of }, { weight: 1, arbitrary: fc.constant(null) })

const document: fc.Arbitrary<Doc> = fc.record(
  {
    label: fc.constantFrom('red', 'blue'),
    plain: number,
    s: nullable(text),
    q: nullable(text),
    n: nullable(number),
    k: number,
    tags: list(text),
    subs: list(sub),
    inner: fc.record({ x: number, y: text }, { requiredKeys: [] }),
    m: map,
    c: nullable(container),
    l: list(number),
  },
  { requiredKeys: [] },
)

const condition: fc.Arbitrary<Doc> = fc.oneof(
  fc.record({ s: text }),
  fc.record({ k: number }),
  fc.record({ s: fc.record({ $in: list(text) }) }),
  fc.record({ s: fc.record({ $ne: text }) }),
  fc.record({ s: fc.constant(null) }),
  fc.record({ q: fc.record({ $exists: fc.boolean() }) }),
  fc.record({ tags: text }),
  fc.record({ tags: fc.record({ $all: fc.array(text, { minLength: 1, maxLength: 2 }) }) }),
  fc.record({ tags: fc.record({ $size: fc.constantFrom(0, 1, 2) }) }),
  fc.record({ tags: fc.record({ $not: fc.record({ $in: list(text), $size: fc.constant(1) }) }) }),
  fc.record({ 'tags.0': text }),
  fc.record({ 'subs.note': text }),
  fc.record({ subs: fc.record({ $elemMatch: fc.record({ at: number, note: text }) }) }),
  fc.record({ label: fc.constantFrom('red', 'blue') }),
  fc.record({ plain: fc.record({ $gt: number }) }),
)
const filter: fc.Arbitrary<Doc> = fc.oneof(
  fc.constant({}),
  condition,
  fc.record({ $or: fc.array(condition, { minLength: 1, maxLength: 2 }) }),
  fc.record({ $nor: fc.array(condition, { minLength: 1, maxLength: 2 }) }),
  fc.record({ $and: fc.array(condition, { minLength: 1, maxLength: 2 }) }),
)

/**
 * Filters of which MongoDB cannot make a document: of an equality through an array it makes an object, on which edits of
 * arrays then fail; a path that two conditions name it refuses. A filter that asks for tokens beside plaintext does neither.
 */
function makesNoDocument(sought: Doc): boolean {
  const named = (Array.isArray(sought['$and']) ? sought['$and'] : []).flatMap((each) => Object.keys(each as Doc))
  return new Set(named).size < named.length || /"(?:subs\.note|tags\.0)":"/.test(JSON.stringify(sought))
}

/** Operators of one root path, so that an update does not conflict with itself. */
const change = (root: string, parts: readonly fc.Arbitrary<Doc>[]) => fc.oneof(...parts).map((part) => ({ root, part }))
const on = (operator: string, path: string, operand: fc.Arbitrary<unknown>): fc.Arbitrary<Doc> =>
  operand.map((value) => ({ [operator]: { [path]: value } }))
/** Of something: DocumentDB makes an empty array of an empty push only where the update changes something else. */
const many = <T>(of: fc.Arbitrary<T>) =>
  fc.record(
    {
      $each: fc.array(of, { minLength: 1, maxLength: 3 }),
      $position: fc.constantFrom(0, 1, -1),
      $slice: fc.constantFrom(2, -2, 1),
    },
    { requiredKeys: ['$each'] },
  )
const end = fc.constantFrom(1, -1)
const gone = fc.constant(1)
const changes = [
  change('s', [on('$set', 's', nullable(text)), on('$unset', 's', gone)]),
  change('q', [on('$set', 'q', nullable(text)), on('$unset', 'q', gone)]),
  change('k', [on('$set', 'k', number), on('$inc', 'k', number), on('$unset', 'k', gone)]),
  change('n', [
    on('$set', 'n', number),
    on('$inc', 'n', number),
    on('$mul', 'n', number),
    on('$min', 'n', number),
    on('$max', 'n', number),
  ]),
  change('plain', [on('$set', 'plain', number), on('$inc', 'plain', number)]),
  change('tags', [
    on('$set', 'tags', list(text)),
    on('$set', 'tags.1', text),
    on('$push', 'tags', text),
    on('$push', 'tags', many(text)),
    on('$pull', 'tags', text),
    on('$pull', 'tags', fc.record({ $in: list(text) })),
    on('$pullAll', 'tags', list(text)),
    on('$pop', 'tags', end),
    on('$addToSet', 'tags', text),
    on('$unset', 'tags', gone),
  ]),
  change('subs', [
    on('$set', 'subs', list(sub)),
    on('$set', 'subs.0.note', text),
    on('$set', 'subs.0', sub),
    on('$set', 'subs.$[].note', text),
    on('$push', 'subs', sub),
    on('$push', 'subs', many(sub)),
    on('$pull', 'subs', fc.record({ note: text })),
    on('$pull', 'subs', fc.record({ at: number })),
    on('$pop', 'subs', end),
    on('$unset', 'subs.0.note', gone),
    on('$inc', 'subs.0.at', number),
  ]),
  change('inner', [
    on('$set', 'inner.y', nullable(text)),
    on('$set', 'inner', fc.record({ x: number, y: text }, { requiredKeys: [] })),
    on('$unset', 'inner.y', gone),
    on('$inc', 'inner.x', number),
  ]),
  change('m', [on('$set', 'm', map), on('$set', 'm.x', text), on('$unset', 'm.x', gone)]),
  change('c', [
    on('$set', 'c', nullable(container)),
    on('$set', 'c.a', number),
    on('$set', 'c.b', text),
    on('$inc', 'c.a', number),
    on('$unset', 'c.b', gone),
    on('$unset', 'c', gone),
  ]),
  change('l', [
    on('$set', 'l', list(number)),
    on('$push', 'l', number),
    on('$push', 'l', many(number)),
    on('$addToSet', 'l', number),
    on('$pull', 'l', number),
    on('$pullAll', 'l', list(number)),
    on('$pop', 'l', end),
    on('$set', 'l.0', number),
  ]),
]
const update: fc.Arbitrary<Doc> = fc
  .uniqueArray(fc.oneof(...changes), { minLength: 1, maxLength: 3, selector: ({ root }) => root })
  .map((chosen) => {
    const merged: Record<string, Doc> = {}
    for (const { part } of chosen)
      for (const [operator, operands] of Object.entries(part)) Object.assign((merged[operator] ??= {}), operands)
    return merged
  })

const projection: fc.Arbitrary<Doc> = fc.constantFrom<Doc[]>(
  {},
  {},
  { s: 1 },
  { label: 1, _id: 0 },
  { q: 0, subs: 0 },
  { 'c.a': 1 },
  { 'subs.note': 1, _id: 0 },
  { 'subs.at': 1, s: 1 },
  { tags: { $slice: 1 } },
  { 'm.x': 1 },
  { s: 0, _id: 0 },
)

const edit: fc.Arbitrary<Edit> = fc.oneof(
  fc.tuple(fc.constantFrom('s', 'q'), fc.constant('set' as const), nullable(text)),
  fc.tuple(fc.constantFrom('n', 'k', 'plain'), fc.constant('set' as const), number),
  fc.tuple(fc.constantFrom('s', 'tags', 'subs', 'c', 'm', 'l'), fc.constant('unset' as const), fc.constant(undefined)),
  fc.tuple(fc.constant('tags'), fc.constantFrom('push' as const, 'shift' as const), text),
  fc.tuple(fc.constant('subs'), fc.constantFrom('push' as const, 'shift' as const), sub),
  fc.tuple(fc.constant('l'), fc.constantFrom('push' as const, 'shift' as const), number),
  fc.tuple(fc.constant('tags'), fc.constant('set' as const), list(text)),
  fc.tuple(fc.constantFrom('c.b', 'm.y', 'inner.y', 'subs.0.note', 'tags.0'), fc.constant('set' as const), text),
  fc.tuple(fc.constant('c'), fc.constant('set' as const), container),
)

const single: fc.Arbitrary<Operation> = fc.oneof(
  { weight: 1, arbitrary: fc.record({ name: fc.constant('insertOne' as const), id, document }) },
  { weight: 4, arbitrary: fc.record({ name: fc.constant('updateOne' as const), id, filter, update }) },
  {
    weight: 2,
    arbitrary: fc
      .record({ name: fc.constantFrom('updateMany' as const, 'upsert' as const), id, filter, update })
      .filter(({ name, filter: sought }) => name !== 'upsert' || !makesNoDocument(sought)),
  },
  { weight: 1, arbitrary: fc.record({ name: fc.constant('replaceOne' as const), id, filter, document }) },
  {
    weight: 1,
    arbitrary: fc.record({ name: fc.constantFrom('deleteOne' as const, 'deleteMany' as const), id, filter }),
  },
)
export const operation: fc.Arbitrary<Operation> = fc.oneof(
  { weight: 6, arbitrary: single },
  {
    weight: 2,
    arbitrary: fc.record({
      name: fc.constant('findOneAndUpdate' as const),
      id,
      filter,
      update,
      projection,
      after: fc.boolean(),
    }),
  },
  { weight: 1, arbitrary: fc.record({ name: fc.constant('findOneAndReplace' as const), id, filter, document }) },
  { weight: 1, arbitrary: fc.record({ name: fc.constant('findOneAndDelete' as const), id, filter }) },
  {
    weight: 3,
    arbitrary: fc.record({ name: fc.constantFrom('find' as const, 'findOne' as const), id, filter, projection }),
  },
  { weight: 1, arbitrary: fc.record({ name: fc.constant('count' as const), filter }) },
  {
    weight: 3,
    arbitrary: fc.record({
      name: fc.constant('save' as const),
      id,
      edits: fc.array(edit, { minLength: 1, maxLength: 3 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      name: fc.constant('bulkWrite' as const),
      operations: fc.array(single, { minLength: 1, maxLength: 3 }),
    }),
  },
)
export const documents: fc.Arbitrary<readonly Doc[]> = fc.array(document, { minLength: 1, maxLength: 3 })

/** Ids of one lane; lanes do not see each other's documents. */
export const idIn = (lane: number, of: number): number => lane * 10 + of

/** Does one operation in a lane. What can differ between the twins for good reason (counts of modified bytes) is left out. */
export async function perform(model: LooseModel, lane: number, given: Operation): Promise<unknown> {
  const all = (filterOf: Doc) => ({ lane, ...filterOf }) as never
  const one = (of: { readonly id: number; readonly filter?: Doc }) =>
    ({ _id: idIn(lane, of.id), lane, ...of.filter }) as never
  switch (given.name) {
    case 'insertOne':
      return String((await model.insertOne({ ...given.document, _id: idIn(lane, given.id), lane } as never))._id)
    case 'updateOne':
    case 'upsert': {
      const upsert = given.name === 'upsert'
      const result = await model.updateOne(one(given), given.update as never, { upsert })
      return [result.matchedCount, result.upsertedCount, result.upsertedId]
    }
    case 'updateMany':
      return (await model.updateMany(all(given.filter), given.update as never)).matchedCount
    case 'findOneAndUpdate':
      return model.findOneAndUpdate(
        one(given),
        given.update as never,
        {
          returnDocument: given.after ? 'after' : 'before',
          projection: given.projection,
          lean: true,
        } as never,
      )
    case 'replaceOne':
      return (await model.replaceOne(one(given), { ...given.document, lane } as never)).matchedCount
    case 'findOneAndReplace':
      return model.findOneAndReplace(one(given), { ...given.document, lane } as never, { lean: true } as never)
    case 'deleteOne':
      return (await model.deleteOne(one(given))).deletedCount
    case 'deleteMany':
      return (await model.deleteMany(all(given.filter))).deletedCount
    case 'findOneAndDelete':
      return model.findOneAndDelete(one(given), { lean: true } as never)
    case 'find':
      return model
        .find(all(given.filter), given.projection as never)
        .sort({ _id: 1 })
        .lean()
    case 'findOne':
      return model.findOne(one(given), given.projection as never).lean()
    case 'count':
      return model.countDocuments(all(given.filter))
    case 'save':
      return save(model, idIn(lane, given.id), given.edits)
    case 'bulkWrite': {
      const result = await model.bulkWrite(given.operations.map((each) => bulkOperation(lane, each)) as never)
      return [result.insertedCount, result.matchedCount, result.deletedCount, result.upsertedCount]
    }
  }
}

async function save(model: LooseModel, _id: number, edits: readonly Edit[]): Promise<unknown> {
  const found = await model.findById(_id)
  if (found === null) return null
  for (const [path, kind, value] of edits) {
    if (kind === 'set') {
      const parents = path.split('.').slice(0, -1)
      if (parents.length === 0 || found.get(parents.join('.')) != null) found.set(path, value)
    } else if (kind === 'unset') found.set(path, undefined)
    else if (kind === 'push') found.get(path)?.push(value)
    else found.get(path)?.shift()
  }
  await found.save()
  return found.toObject({ flattenMaps: true })
}

function bulkOperation(lane: number, given: Operation): Doc {
  switch (given.name) {
    case 'insertOne':
      return { insertOne: { document: { ...given.document, _id: idIn(lane, given.id), lane } } }
    case 'updateOne':
    case 'upsert':
      return {
        updateOne: {
          filter: { _id: idIn(lane, given.id), lane, ...given.filter },
          update: given.update,
          upsert: given.name === 'upsert',
        },
      }
    case 'updateMany':
      return { updateMany: { filter: { lane, ...given.filter }, update: given.update } }
    case 'replaceOne':
      return {
        replaceOne: {
          filter: { _id: idIn(lane, given.id), lane, ...given.filter },
          replacement: { ...given.document, lane },
        },
      }
    case 'deleteOne':
      return { deleteOne: { filter: { _id: idIn(lane, given.id), lane, ...given.filter } } }
    case 'deleteMany':
      return { deleteMany: { filter: { lane, ...given.filter } } }
    default:
      throw new Error(`${given.name} is no operation of a bulk write`)
  }
}

/** All documents of a lane. */
export const documentsOf = (model: LooseModel, lane: number): Promise<object[]> =>
  model
    .find({ lane } as never)
    .sort({ _id: 1 })
    .lean()
    .exec() as unknown as Promise<object[]>

/** What came of an operation: its result, our refusal, or an error of the server or of Mongoose. */
export async function outcomeOf(work: () => Promise<unknown>) {
  try {
    return { kind: 'done' as const, result: await work() }
  } catch (error) {
    // A bulk write that is refused half way tells so as one that fails half way.
    const halfWay = String(error).includes('ERR_WRITE_UNSUPPORTED')
    return {
      kind: isFieldsealError(error) ? ('refused' as const) : halfWay ? ('partial' as const) : ('failed' as const),
      error,
    }
  }
}
