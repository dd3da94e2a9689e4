import { kmsError } from '@fieldseal/core/kms'
import { PROVIDER } from './map-error.ts'

/** Ends with the signal or at `close`, also while credentials are being fetched; a late answer is given to `discard`. */
export async function untilAborted<Answer>(
  work: Promise<Answer>,
  signal: AbortSignal,
  underWay: Set<() => void>,
  discard: (answer: Answer) => void,
): Promise<Answer> {
  const { promise: aborted, reject } = Promise.withResolvers<never>()
  const onAbort = () => {
    work.then(discard, () => undefined)
    reject(abortedError(signal))
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

export function abortedError({ reason }: AbortSignal) {
  const late = reason instanceof DOMException && reason.name === 'TimeoutError'
  return kmsError(late ? 'ERR_KMS_TIMEOUT' : 'ERR_KMS_ABORTED', { provider: PROVIDER })
}
