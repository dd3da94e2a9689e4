import type { DataSourceOptions } from 'typeorm'

/** Connections of a pool when nobody says; node-postgres' own. */
const DEFAULT_POOL_SIZE = 10

type PostgresOptions = Extract<DataSourceOptions, { type: 'postgres' }>

/** How to connect, and nothing else: never `synchronize`, `dropSchema`, `entities`, `subscribers`, `cache`, `logging`. */
export function connectionOptions(options: DataSourceOptions, poolSize: number): PostgresOptions {
  const postgres = options as PostgresOptions // typeormKeyStore() has looked
  const { replication } = postgres
  const kept: readonly (keyof PostgresOptions)[] = [
    'url',
    'host',
    'port',
    'username',
    'password',
    'database',
    'schema',
    'ssl',
    'applicationName',
    'connectTimeoutMS',
    'driver',
    'nativeDriver',
    'poolErrorHandler',
  ]
  // Absence on a replica would look like a revoked key.
  const primary = replication === undefined ? postgres : { ...postgres, ...replication.master }
  const picked = Object.fromEntries(
    kept.flatMap((name) => (primary[name] === undefined ? [] : [[name, primary[name]]])),
  )
  return {
    ...picked,
    type: 'postgres',
    installExtensions: false,
    poolSize,
    extra: { ...extraOf(options), max: poolSize },
  }
}

/** Connections of the DataSource's pool. */
export function poolSizeOf(options: DataSourceOptions): number {
  const max = extraOf(options)['max'] // it wins over poolSize in TypeORM
  if (typeof max === 'number') return max
  return 'poolSize' in options && typeof options.poolSize === 'number' ? options.poolSize : DEFAULT_POOL_SIZE
}

/** Whether two sets of options reach the same database. */
export function sameDatabase(a: DataSourceOptions, b: DataSourceOptions): boolean {
  if (a === b) return true
  const names = ['type', 'url', 'host', 'port', 'database'] as const
  return (
    names.every((name) => Reflect.get(a, name) === Reflect.get(b, name)) &&
    extraOf(a)['stream'] === extraOf(b)['stream']
  )
}

function extraOf(options: DataSourceOptions): Record<string, unknown> {
  const extra: unknown = options.extra
  return typeof extra === 'object' && extra !== null ? (extra as Record<string, unknown>) : {}
}
