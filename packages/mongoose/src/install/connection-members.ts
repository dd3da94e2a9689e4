import type { Connection } from 'mongoose'
import { isDoc } from '../bson/documents.ts'
import { refuseWrite } from '../query-rewrite/refuse.ts'
import { stateOf } from './intercept.ts'

const MEMBERS = Symbol.for('@fieldseal/mongoose:connection')

interface BulkWriting {
  bulkWrite?(operations: unknown, options?: unknown): Promise<unknown>
  [MEMBERS]?: true
}

/** `connection.bulkWrite()` hands operations on several collections to the client, past the collections of its models. */
export function overrideConnection(connection: Connection): void {
  const members = connection as unknown as BulkWriting // a Connection, past its overloads
  const bulkWrite = members.bulkWrite?.bind(connection)
  if (bulkWrite === undefined || members[MEMBERS] === true) return
  Object.defineProperty(members, MEMBERS, { value: true })
  members.bulkWrite = async (operations, options) => {
    for (const operation of Array.isArray(operations) ? (operations as unknown[]) : []) {
      const model: unknown = isDoc(operation) ? operation['model'] : undefined
      const collection = (typeof model === 'string' ? connection.models[model] : (model as Partial<Model>))?.collection
      const state = collection && stateOf(collection)
      if (state !== undefined)
        refuseWrite(
          state.model().map.id,
          '',
          'conn-bulkwrite',
          'it passes by the collection: use bulkWrite of the model',
        )
    }
    return bulkWrite(operations, options)
  }
}

interface Model {
  readonly collection: object
}
