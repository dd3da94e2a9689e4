import type { QueryRunner } from 'typeorm'

/** Runs `fn` in a transaction, or in a savepoint of the one that is open; what it has done is undone when it throws. */
export async function undoable<R>(runner: QueryRunner, fn: () => Promise<R>): Promise<R> {
  await runner.startTransaction()
  try {
    const result = await fn()
    await runner.commitTransaction()
    return result
  } catch (error) {
    await runner.rollbackTransaction().catch(() => undefined) // the first error is the one to tell
    throw error
  }
}
