import type { EntityManager, QueryRunner } from 'typeorm'
import { loadKeysFor, needsRowsAtHand, touchedRows } from '../write-path/touched-rows.ts'
import { RowsAtHand } from '../write-path/rows-at-hand.ts'
import { viaOf, type Installation } from './installation.ts'
import { redactNotFound } from './not-found.ts'
import type { TransactionScope } from './transaction-scope.ts'

type Method = (...args: unknown[]) => Promise<unknown>

/** The members of an entity manager that are overridden, whatever their overloads. */
interface ManagerMembers {
  save: Method
  transaction: Method
  findOneOrFail: Method
  findOneByOrFail: Method
}

/**
 * Overrides one entity manager: keys are made and loaded before TypeORM takes a connection and opens a transaction, in
 * which they could neither be made on an engine with one connection nor be waited for without holding it.
 */
export function overrideManager(
  manager: EntityManager,
  installation: Installation,
  transactions: TransactionScope,
): void {
  const members = manager as unknown as ManagerMembers // an EntityManager; overloads aside
  const original: ManagerMembers = {
    save: members.save.bind(manager),
    transaction: members.transaction.bind(manager),
    findOneOrFail: members.findOneOrFail.bind(manager),
    findOneByOrFail: members.findOneByOrFail.bind(manager),
  }
  members.save = async (...args) => {
    const touched = touchedRows(installation, args)
    if (touched.size === 0) return original.save(...args)
    const context = installation.host.capture()
    await loadKeysFor(installation, touched, context, viaOf(installation, manager.queryRunner))
    if (!needsRowsAtHand(touched, context)) return original.save(...args)
    return withRunner(manager, installation, (runner) =>
      withRowsAtHand(installation, runner, () => saveWith(manager, runner, original, args)),
    )
  }
  members.transaction = async (...args) => {
    await preload(manager, installation)
    return transactions.run(() => original.transaction(...args))
  }
  for (const name of ['findOneOrFail', 'findOneByOrFail'] as const) {
    members[name] = async (...args) => {
      try {
        return await original[name](...args)
      } catch (error) {
        throw redactNotFound(error, installation, args)
      }
    }
  }
}

/** The current tenant's keys for all models: nobody knows yet what the transaction will write. */
async function preload(manager: EntityManager, { host, models, oneConnection }: Installation): Promise<void> {
  const context = host.captureIfAny()
  const maps = [...new Set(models().models.map(({ map }) => map))]
  if (context === undefined || maps.length === 0) return
  const via = oneConnection ? manager.queryRunner : undefined
  // The transaction may touch no encrypted model at all; one that does meets the same error again.
  await host.load(maps, context, { via }).catch(() => undefined)
}

async function withRunner<R>(
  manager: EntityManager,
  { dataSource }: Installation,
  fn: (runner: QueryRunner) => Promise<R>,
): Promise<R> {
  if (manager.queryRunner !== undefined) return fn(manager.queryRunner)
  const runner = dataSource.createQueryRunner() // as TypeORM's save does itself
  try {
    return await fn(runner)
  } finally {
    await runner.release()
  }
}

async function withRowsAtHand<R>({ rowsAtHand }: Installation, runner: QueryRunner, fn: () => Promise<R>): Promise<R> {
  const outer = rowsAtHand.get(runner)
  rowsAtHand.set(runner, outer ?? new RowsAtHand())
  try {
    return await fn()
  } finally {
    if (outer === undefined) rowsAtHand.delete(runner)
  }
}

function saveWith(
  manager: EntityManager,
  runner: QueryRunner,
  original: ManagerMembers,
  args: unknown[],
): Promise<unknown> {
  if (manager.queryRunner === runner) return original.save(...args)
  return (runner.manager as unknown as ManagerMembers).save(...args) // the runner's own manager, overridden like this one
}
