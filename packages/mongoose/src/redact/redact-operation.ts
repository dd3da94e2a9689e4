import { stateOf } from '../install/intercept.ts'
import { REDACTED, redactFilter } from './redact-error.ts'

/**
 * What subscribers of Mongoose's own channels may log: Mongoose publishes arguments above this package
 * (`mongoose:*` tracing channels since 9.7, `operation-start` of a connection), so they hold plaintext.
 *
 * @param model a model; one without encrypted paths is given back as it is
 * @param value filter, update, document, or a list of them
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
