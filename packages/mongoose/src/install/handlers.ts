import { isDoc } from '../bson/documents.ts'
import { plaintextInFilter } from '../guard/check-filter.ts'
import { touchesEncrypted, walkPath } from '../path-graph/walk-path.ts'
import { storedPath } from '../query-rewrite/plain-places.ts'
import { refuseQuery } from '../query-rewrite/refuse.ts'
import type { OperationOptions } from '../query-rewrite/scope.ts'
import { aggregate } from '../read-path/aggregate.ts'
import { find } from '../read-path/cursors.ts'
import { findOneAndDelete, findOneAndReplace, findOneAndUpdate } from '../read-path/find-and-modify.ts'
import { findOne } from '../read-path/find-one.ts'
import { countable } from '../read-path/find.ts'
import { bulkWrite } from '../write-path/bulk-write.ts'
import { insertMany, insertOne } from '../write-path/insert.ts'
import { deleteCriteria, runReplace } from '../write-path/replace.ts'
import { runUpdate } from '../write-path/update.ts'
import type { CollectionState, WriteResult } from './collection-state.ts'
import { redactDriverError } from './driver-errors.ts'

type Handler = (...args: unknown[]) => unknown

/**
 * Our methods of the driver's collection. Those that return a promise reject, they never throw at once: `save()` of
 * Mongoose gives a document its state back only when it is told so.
 */
export function createHandlers(state: CollectionState): Readonly<Record<string, Handler>> {
  const { raw } = state
  const promised =
    (run: (...args: unknown[]) => Promise<unknown>): Handler =>
    async (...args) => {
      try {
        state.assertGuarded()
        return await run(...args)
      } catch (error) {
        throw redactDriverError(error, state)
      }
    }
  const update = (kind: 'one' | 'many') =>
    promised((filter, changes, options) => {
      const send = kind === 'one' ? raw.updateOne.bind(raw) : raw.updateMany.bind(raw)
      return runUpdate<WriteResult>(
        state,
        { filter, update: changes, options: optionsOf(options), kind },
        state.host.capture(),
        {
          run: (criteria, sent, sentOptions) => send(criteria, sent, sentOptions),
          matched: ({ matchedCount, upsertedCount }) => matchedCount + upsertedCount,
        },
      )
    })
  const remove = (send: (filter: Record<string, unknown>, options: unknown) => Promise<unknown>) =>
    promised(async (filter = {}, options) => {
      const { confined, rewritten } = await deleteCriteria(
        state,
        state.model(),
        filter,
        optionsOf(options),
        state.host.capture(),
      )
      return send(confined, rewritten)
    })
  const count = (name: 'countDocuments' | 'count') =>
    promised(async (filter, options) => {
      const query = await countable(state, filter, optionsOf(options))
      const send = Reflect.get(raw, name) as typeof raw.countDocuments // both take the same
      return send.call(raw, query.filter, query.options)
    })

  return {
    insertOne: promised((document, options) => insertOne(state, document, options)),
    insertMany: promised((documents, options) => insertMany(state, documents, options)),
    bulkWrite: promised((operations, options) => bulkWrite(state, operations, optionsOf(options))),
    updateOne: update('one'),
    updateMany: update('many'),
    replaceOne: promised((filter, replacement, options) =>
      runReplace(
        state,
        { filter, replacement, options: optionsOf(options) },
        state.host.capture(),
        (criteria, sent, sentOptions) => raw.replaceOne(criteria, sent, sentOptions),
      ),
    ),
    deleteOne: remove((filter, options) => raw.deleteOne(filter, options)),
    deleteMany: remove((filter, options) => raw.deleteMany(filter, options)),
    findOneAndUpdate: promised((filter, changes, options) =>
      findOneAndUpdate(state, filter, changes, optionsOf(options)),
    ),
    findOneAndReplace: promised((filter, document, options) =>
      findOneAndReplace(state, filter, document, optionsOf(options)),
    ),
    findOneAndDelete: promised((filter, options) => findOneAndDelete(state, filter, optionsOf(options))),
    findOne: promised((filter, options) => findOne(state, filter, optionsOf(options))),
    find: (filter, options) => find(state, filter, optionsOf(options)),
    aggregate: (pipeline, options) => aggregate(state, pipeline, optionsOf(options)),
    countDocuments: count('countDocuments'),
    count: count('count'),
    distinct: promised(async (key, filter, options) => {
      const { root, map } = state.model()
      const path = storedPath(root, String(key))
      if (path === String(key) && touchesEncrypted(root, path))
        refuseQuery(map.id, path, 'distinct', 'equal values have different ciphertext: read the documents')
      const query = await countable(state, filter, optionsOf(options))
      return raw.distinct(path, query.filter, query.options)
    }),
    createIndex: promised(async (keys, options) => {
      assertPlainIndex(state, keys, options)
      return raw.createIndex(keys, options)
    }),
    createIndexes: promised(async (specs, options) => {
      for (const spec of Array.isArray(specs) ? (specs as unknown[]) : [])
        if (isDoc(spec)) assertPlainIndex(state, spec['key'], spec)
      return raw.createIndexes(specs as readonly unknown[], options) // the driver checks it
    }),
  }
}

function optionsOf(options: unknown): OperationOptions {
  return isDoc(options) ? (options as OperationOptions) : {}
}

/** Indexes of a schema name token paths by now; one that names a value is made by hand. */
function assertPlainIndex(state: CollectionState, keys: unknown, options: unknown): void {
  const { root, map } = state.model()
  const compared = plaintextInFilter(isDoc(options) ? options['partialFilterExpression'] : undefined, root)
  if (compared !== undefined)
    refuseQuery(map.id, compared, 'index', 'its partial filter compares ciphertext: say $exists')
  const paths =
    keys instanceof Map
      ? [...keys.keys()]
      : Array.isArray(keys)
        ? keys.flat()
        : isDoc(keys)
          ? Object.keys(keys)
          : [keys]
  for (const path of paths.filter((each) => typeof each === 'string')) {
    const value = path.replace(/\.[bn]$/, '')
    const isOld = walkPath(root, path).node?.plainOf !== undefined
    if (!isOld && touchesEncrypted(root, value) && value === path)
      refuseQuery(map.id, path, 'index', 'an index would hold ciphertext: say blindIndex in the schema')
  }
}
