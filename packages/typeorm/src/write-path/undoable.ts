import type { QueryRunner } from 'typeorm'
import type { EntityModel } from '../entity-map/entity-model.ts'
import type { OwnBuilder } from '../install/typeorm-internals.ts'
import { openReturned, type Returned } from '../read-path/returning.ts'

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

/** Runs `fn` on the runner of a builder, or on one of its own for as long as it takes. */
export async function withRunner<R>(builder: OwnBuilder, fn: (runner: QueryRunner) => Promise<R>): Promise<R> {
  if (builder.queryRunner !== undefined) return fn(builder.queryRunner)
  const runner = builder.dataSource.createQueryRunner()
  Object.assign(builder, { queryRunner: runner })
  try {
    return await fn(runner)
  } finally {
    Reflect.deleteProperty(builder, 'queryRunner')
    await runner.release()
  }
}

/** Runs the statement of a builder, and opens what its RETURNING brought: what does not open leaves nothing of the statement. */
export async function runReturning<R extends Returned>(
  builder: OwnBuilder,
  model: EntityModel,
  run: () => Promise<R>,
): Promise<R> {
  const { returning, whereEntities } = builder.expressionMap
  if (!Array.isArray(returning)) return run()
  return withRunner(builder, (runner) =>
    undoable(runner, async () => {
      const result = await run()
      await openReturned(builder, model, result, whereEntities)
      return result
    }),
  )
}
