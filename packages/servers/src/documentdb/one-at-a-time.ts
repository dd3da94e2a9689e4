/** Runs actions under the same key one after the other, each whatever became of the one before. */
export type OneAtATime = <Result>(key: string, action: () => Promise<Result>) => Promise<Result>

export function oneAtATime(): OneAtATime {
  const last = new Map<string, Promise<unknown>>()
  return async (key, action) => {
    const before = last.get(key) ?? Promise.resolve()
    const result = before.then(action, action)
    last.set(key, result)
    try {
      return await result
    } finally {
      if (last.get(key) === result) last.delete(key)
    }
  }
}
