/**
 * The result of `work`, or the error of `late` when it takes longer than `ms` in real time; the work itself is not
 * stopped. A process that was busy gets another turn to hear an answer that has arrived meanwhile.
 */
export async function within<R>(ms: number, work: Promise<R>, late: () => Error): Promise<R> {
  const { promise, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => setImmediate(() => setImmediate(() => reject(late()))), ms)
  try {
    return await Promise.race([work, promise])
  } finally {
    clearTimeout(timer)
    promise.catch(() => undefined)
  }
}
