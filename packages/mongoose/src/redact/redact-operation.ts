import { isDoc } from '../bson/documents.ts'
import { factsOf, stateOf, type NativeCollection } from '../install/intercept.ts'
import { PLAIN } from '../read-path/shape.ts'
import { REDACTED, redactFilter } from './redact-filter.ts'

/**
 * What subscribers of Mongoose's tracing channels (`mongoose:*`, since 9.7) may log: Mongoose publishes arguments above
 * this package, so they hold plaintext. Its debug output and its `operation-start` events come below, and hold ciphertext.
 *
 * After a stage that makes something of an encrypted path, or is not known, no constant of a pipeline is left.
 *
 * @param model a model; without encrypted paths the value is given back as it is, unless it looks up documents with some
 * @param value filter, update, document, pipeline, operations of a bulk write, or an object that holds some of them
 * @returns a copy in which values of encrypted paths are `[redacted]`
 */
export function redactOperation(model: { readonly collection: object }, value: unknown): unknown {
  try {
    const root = stateOf(model.collection)?.model().root
    const { neighbour } = factsOf(model.collection as NativeCollection) // a model's is one of Mongoose
    const others = [...lookedUp(value)].flatMap((collection) => neighbour(collection)?.root ?? [])
    return root === undefined && others.length === 0 ? value : redactFilter(value, root ?? PLAIN, others)
  } catch {
    return REDACTED
  }
}

const LOOKING_UP: readonly string[] = ['$lookup', '$graphLookup', '$unionWith']

/** The collections that stages of a pipeline bring documents from. */
function* lookedUp(value: unknown): Generator<string> {
  if (Array.isArray(value)) for (const each of value) yield* lookedUp(each)
  else if (isDoc(value) && [Object.prototype, null].includes(Object.getPrototypeOf(value) as object | null))
    for (const [key, each] of Object.entries(value)) {
      const from = isDoc(each) ? (each['from'] ?? each['coll']) : each
      if (LOOKING_UP.includes(key) && typeof from === 'string') yield from
      yield* lookedUp(each)
    }
}
