import { embeddedBinaries, localBinaries } from './postgres-binaries.ts'
import { type PostgresProcess, startPostgresProcess } from './postgres-process.ts'

/**
 * Starts a PostgreSQL that only the caller uses, from installed or embedded binaries: one that may be restarted or
 * filled up. What it has committed outlives a restart of either mode.
 *
 * @returns undefined where the machine has no binaries
 */
export async function startOwnPostgres(): Promise<PostgresProcess | undefined> {
  const folder = localBinaries() ?? embeddedBinaries()
  return folder === undefined ? undefined : startPostgresProcess(folder, { synchronous_commit: 'on' })
}
