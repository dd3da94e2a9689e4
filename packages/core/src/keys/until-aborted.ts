import { kmsError, type FieldsealError } from '../errors/fieldseal-error.ts'

/**
 * Waits for a call of a KMS provider, but no longer than until its signal, also where the vendor's client does not listen
 * to one (while it is still getting credentials).
 *
 * @param underWay ends of all calls of the provider, so that its `close` can end them
 * @param discard is given an answer that comes too late, to wipe keys in it
 * @throws FieldsealError ERR_KMS_TIMEOUT, ERR_KMS_ABORTED
 */
export async function untilAborted<Answer>(
  provider: string,
  work: Promise<Answer>,
  signal: AbortSignal,
  underWay: Set<() => void>,
  discard: (answer: Answer) => void,
): Promise<Answer> {
  const { promise: aborted, reject } = Promise.withResolvers<never>()
  const onAbort = () => {
    work.then(discard, () => undefined)
    reject(abortedError(provider, signal))
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
