/**
 * Runs `work` for every item, a few at once and in order, so that each call to a KMS has its whole deadline. After the
 * first failure no more is begun; what is under way is waited for.
 *
 * @throws the first failure
 */
export async function pooled<T>(items: readonly T[], atOnce: number, work: (item: T) => Promise<void>): Promise<void> {
  let next = 0
  let failure: { readonly error: unknown } | undefined

  async function worker(): Promise<void> {
    while (next < items.length && failure === undefined) {
      const item = items[next++] as T // next < length
      try {
        await work(item)
      } catch (error) {
        failure ??= { error }
      }
    }
  }

  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, worker))
  if (failure !== undefined) throw failure.error
}
