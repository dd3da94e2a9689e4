import { isZeroedKey } from '../keys/secret-key.ts'

const MAX_RUNS = 3

/** A key may be purged between the moment it is found and the moment it is used: then all keys are asked for again. */
export async function withLiveKeys<R>(run: () => Promise<R>): Promise<R> {
  for (let runs = 1; ; runs++) {
    try {
      return await run()
    } catch (error) {
      if (runs === MAX_RUNS || !isZeroedKey(error)) throw error
    }
  }
}
