import { kmsError, type FieldsealError } from '../errors/fieldseal-error.ts'

/**
 * Makes a call of a KMS provider and waits for it, but no longer than until its signal, also where the vendor's client does
 * not listen to one (while it is still getting credentials).
 *
 * @param send is given a signal that ends the call at the other end too, whoever ends it
 * @param underWay ends of all calls of the provider, so that its `close` can end them
 * @param discard is given an answer that comes too late, to wipe keys in it
 * @throws FieldsealError ERR_KMS_TIMEOUT, ERR_KMS_ABORTED
 */
export async function untilAborted<Answer>(
  provider: string,
  send: (signal: AbortSignal) => Promise<Answer>,
  signal: AbortSignal,
  underWay: Set<() => void>,
  discard: (answer: Answer) => void,
): Promise<Answer> {
  const ended = new AbortController()
  const work = send(ended.signal)
  const { promise: aborted, reject } = Promise.withResolvers<never>()
  const onAbort = () => {
    work.then(discard, () => undefined)
    reject(abortedError(provider, signal))
    ended.abort(signal.reason)
  }
  signal.addEventListener('abort', onAbort, { once: true })
  underWay.add(onAbort)
  try {
    return await Promise.race([work, aborted])
  } finally {
    signal.removeEventListener('abort', onAbort)
    underWay.delete(onAbort)
  }
}

/** What an aborted call ends with: a deadline that has passed, or somebody who gave up. */
export function abortedError(provider: string, { reason }: AbortSignal): FieldsealError {
  const late = reason instanceof DOMException && reason.name === 'TimeoutError'
  return kmsError(late ? 'ERR_KMS_TIMEOUT' : 'ERR_KMS_ABORTED', { provider })
}
