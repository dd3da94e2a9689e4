import { hasMongo } from '@fieldseal/servers/vitest'
import mongoose, { Schema } from 'mongoose'
import { describe, expect, it } from 'vitest'
import { methodNames } from '../src/install/intercept.ts'
import { PASSED_METHODS } from '../src/install/methods.ts'
import { useClinic } from './support/clinic.ts'
import { protects, refuses } from './support/operation.ts'

const HANDLED = [
  'aggregate',
  'bulkWrite',
  'count',
  'countDocuments',
  'createIndex',
  'createIndexes',
  'deleteMany',
  'deleteOne',
  'distinct',
  'find',
  'findOne',
  'findOneAndDelete',
  'findOneAndReplace',
  'findOneAndUpdate',
  'insertMany',
  'insertOne',
  'replaceOne',
  'updateMany',
  'updateOne',
]
const DENIED = [
  'createSearchIndex',
  'createSearchIndexes',
  'initializeOrderedBulkOp',
  'initializeUnorderedBulkOp',
  'updateSearchIndex',
  'watch',
]

describe.runIf(hasMongo())("the methods of the driver's collection", () => {
  const clinic = useClinic({ tenancy: 'single' })
  const model = () => clinic.model(new Schema({ ssn: { type: String, encrypted: true } }))

  it('are each handled, passed or denied, and no list names one that is not there', () => {
    const known = [...HANDLED, ...DENIED, ...PASSED_METHODS]
    expect(known.toSorted()).toEqual([...new Set(known)].toSorted())
    expect(known.toSorted()).toEqual(methodNames().toSorted())
  })

  it('are our own on the collection of an encrypted model, but for the passed ones', () => {
    const { collection } = model()
    const own = methodNames().filter((name) => Object.hasOwn(collection, name))
    expect(own.toSorted()).toEqual([...HANDLED, ...DENIED].toSorted())
    const Plain = clinic.model(new Schema({ a: String }))
    // It may look up what others keep encrypted.
    expect(methodNames().filter((name) => Object.hasOwn(Plain.collection, name))).toEqual(['aggregate'])
  })

  it.each(DENIED)('%s throws at once, whether or not it gives a promise', (name) => {
    const { collection } = model()
    expect(() => (Reflect.get(collection, name) as () => unknown)()).toThrow(
      name === 'watch' ? /^ERR_QUERY_UNSUPPORTED/ : /^ERR_WRITE_UNSUPPORTED/,
    )
  })

  it('a method of a later driver is refused until somebody has looked at it', async () => {
    const { prototype } = mongoose.mongo.Collection
    const added = { value: () => 'sent', configurable: true }
    Object.defineProperty(prototype, 'fromTheFuture', added)
    try {
      const { collection } = model()
      expect(() => Reflect.get(collection, 'fromTheFuture')()).toThrow(/unsupported-method.*fromTheFuture/)
    } finally {
      Reflect.deleteProperty(prototype, 'fromTheFuture')
    }
  })

  protects('rename', 'passed on: values are bound to the id of the model, not to the name', async () => {
    const Model = model()
    const name = Model.collection.collectionName
    await Model.create({ ssn: clinic.secret('kept over renaming') })
    await Model.collection.rename(`${name}_for_now`)
    expect(await Model.findOne()).toBeNull()
    await clinic.connection.db?.renameCollection(`${name}_for_now`, name)
    expect(await Model.findOne()).toMatchObject({ ssn: 'kept over renaming' })
  })

  protects('drop', 'passed on, as are estimatedDocumentCount, indexes, options and isCapped', async () => {
    const Model = model()
    await Model.init()
    await Model.create({ ssn: clinic.secret('dropped soon') })
    expect(await Model.estimatedDocumentCount()).toBe(1)
    expect(Object.keys(await Model.collection.indexInformation())).toContain('__fieldseal.k_1')
    expect(await Model.collection.isCapped()).toBe(false)
    await Model.collection.drop()
    expect(await Model.countDocuments()).toBe(0)
  })

  refuses(
    'watch',
    'change streams',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'change-streams' },
    () => model().collection.watch() as unknown,
  )

  refuses('Model.watch', 'change streams of a model', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'change-streams' }, () =>
    model().watch(),
  )

  refuses(
    'initializeUnorderedBulkOp',
    'bulk operations of the driver',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'unsupported-method' },
    () => model().collection.initializeUnorderedBulkOp() as unknown,
  )
})
