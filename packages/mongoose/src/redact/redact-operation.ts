import { stateOf } from '../install/intercept.ts'
import { REDACTED, redactFilter } from './redact-filter.ts'

/**
 * What subscribers of Mongoose's tracing channels (`mongoose:*`, since 9.7) may log: Mongoose publishes arguments above
 * this package, so they hold plaintext. Its debug output and its `operation-start` events come below, and hold ciphertext.
 *
 * @param model a model; without encrypted paths the value is given back as it is
 * @param value filter, update, document, pipeline, operations of a bulk write, or an object that holds some of them
 * @returns a copy in which values of encrypted paths are `[redacted]`
 */
export function redactOperation(model: { readonly collection: object }, value: unknown): unknown {
  const state = stateOf(model.collection)
  if (state === undefined) return value
  try {
    return redactFilter(value, state.model().root)
  } catch {
    return REDACTED
  }
}
