import { containerRuntime, provideImage } from './containers.ts'
import { cachedRoot, obstacle } from './documentdb/cached-root.ts'
import { startEngineProcess, type Engine } from './documentdb/engine-process.ts'
import { startEngineContainer } from './documentdb/engine-container.ts'
import { startGateway } from './documentdb/gateway.ts'
import { climb, messageOf, type Rung } from './ladder.ts'
import { inspectMongo, type MongoFacts } from './mongo-capabilities.ts'
import { withClient } from './mongo-database.ts'
import { downloadedMongod, localMongod, startReplicaSet } from './mongod.ts'
import { say } from './say.ts'

export type MongoRung = 'environment' | 'testcontainers' | 'local binaries' | 'mongodb-memory-server' | 'DocumentDB'

export interface RunningMongo extends MongoFacts {
  readonly uri: string
  readonly rung: MongoRung
  /** Ends the server where it is ours. May be called twice. */
  stop(): Promise<void>
}

interface Started {
  readonly uri: string
  readonly where: string
  stop(): Promise<void>
}

/**
 * Makes a MongoDB, or an engine compatible with it, available by the first rung that the machine offers:
 * `MONGODB_URI`, then a container of `MONGO_IMAGE` where a Docker engine answers, then an installed `mongod`, then
 * the one that mongodb-memory-server downloads, then the DocumentDB engine from Debian's packages.
 *
 * A server named by the variable must answer: none is started in its place. A started one listens on 127.0.0.1 only,
 * unless Docker publishes a container's port elsewhere, and is removed with all its files by `stop`, or when this
 * process ends, however it ends.
 *
 * Prints to stderr which rung it took, and what the server cannot do.
 *
 * @throws Error listing what was tried
 */
export async function startMongo(): Promise<RunningMongo> {
  const { rung, started } = await climb('MongoDB', rungs, 'set MONGODB_URI to a replica set')
  try {
    const facts = await withClient(started.uri, inspectMongo)
    say(`${nameOf(facts)} from ${started.where}`)
    let stopped: Promise<void> | undefined
    return { ...facts, uri: started.uri, rung, stop: () => (stopped ??= started.stop()) }
  } catch (error) {
    await started.stop()
    if (rung !== 'environment') throw error
    throw new Error(`${started.where} is set, but does not answer: ${messageOf(error)}`)
  }
}

/** What the server is, and what it lacks: `MongoDB-compatible engine: DocumentDB 1.0-0 (no changeStreams)`. */
function nameOf({ engine, version, capabilities }: MongoFacts): string {
  const name = engine === 'DocumentDB' ? 'MongoDB-compatible engine: DocumentDB' : engine
  const missing = Object.entries(capabilities).flatMap(([capability, present]) => (present ? [] : [capability]))
  return `${name} ${version}${missing.length > 0 ? ` (no ${missing.join(', ')})` : ''}`
}

const rungs: readonly Rung<MongoRung, Started>[] = [
  { name: 'environment', start: fromEnvironment },
  { name: 'testcontainers', start: fromContainer },
  { name: 'local binaries', start: fromLocalBinary },
  { name: 'mongodb-memory-server', start: fromDownload },
  { name: 'DocumentDB', start: fromDebianPackages },
]

async function fromEnvironment(): Promise<Started | undefined> {
  const uri = process.env['MONGODB_URI']
  return uri ? { uri, where: 'MONGODB_URI', stop: async () => {} } : undefined
}

async function fromContainer(): Promise<Started | undefined> {
  const runtime = await containerRuntime()
  if (!runtime) return undefined
  const image = process.env['MONGO_IMAGE'] || 'mongo:8'
  const where = `a container of ${image}`
  const engine = await provideImage(runtime, image)
  if (engine === 'documentdb') return { ...(await behindGateway(await startEngineContainer(image))), where }
  const { MongoDBContainer } = await import('@testcontainers/mongodb')
  const container = await new MongoDBContainer(image).start()
  return {
    uri: `${container.getConnectionString()}/?directConnection=true`,
    where,
    async stop() {
      await container.stop()
    },
  }
}

async function fromLocalBinary(): Promise<Started | undefined> {
  const binary = localMongod()
  return binary && { ...(await startReplicaSet(binary)), where: binary.path }
}

async function fromDownload(): Promise<Started> {
  return { ...(await startReplicaSet(await downloadedMongod())), where: 'mongodb-memory-server' }
}

async function fromDebianPackages(): Promise<Started> {
  const reason = obstacle()
  if (reason !== undefined) throw new Error(reason)
  const engine = await startEngineProcess(await cachedRoot())
  return { ...(await behindGateway(engine)), where: "Debian's packages" }
}

async function behindGateway(engine: Engine): Promise<Omit<Started, 'where'>> {
  try {
    const gateway = await startGateway(engine.connection)
    return {
      uri: gateway.uri,
      async stop() {
        await gateway.close()
        await engine.stop()
      },
    }
  } catch (error) {
    await engine.stop()
    throw error
  }
}
