/**
 * Runs `expire` after `ms` in real time, unless stopped before. A process that was busy gets another turn to hear an
 * answer that has arrived meanwhile. @returns the stop
 */
export function afterMs(ms: number, expire: () => void): () => void {
  let stopped = false
  const unlessStopped = (run: () => void) => () => void (stopped || run())
  const timer = setTimeout(() => setImmediate(unlessStopped(() => setImmediate(unlessStopped(expire)))), ms)
  return () => {
    stopped = true
    clearTimeout(timer)
  }
}

/**
 * The result of `work`, or the error of `late` when it takes longer than `ms` in real time; the work itself is not
 * stopped.
 */
export async function within<R>(ms: number, work: Promise<R>, late: () => Error): Promise<R> {
  const { promise, reject } = Promise.withResolvers<never>()
  const stop = afterMs(ms, () => reject(late()))
  try {
    return await Promise.race([work, promise])
  } finally {
    stop()
  }
}
