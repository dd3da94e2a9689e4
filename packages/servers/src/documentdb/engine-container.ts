import { randomBytes } from 'node:crypto'
import { serverOptions, type Engine } from './engine-process.ts'

const PORT = 5432

/** Starts an image that holds the engine, without a gateway of its own: ours stands before it. */
export async function startEngineContainer(image: string): Promise<Engine> {
  const { GenericContainer, Wait } = await import('testcontainers')
  const password = randomBytes(18).toString('base64url')
  const container = await new GenericContainer(image)
    .withEnvironment({ POSTGRES_PASSWORD: password })
    .withCommand(serverOptions('/tmp'))
    .withExposedPorts(PORT)
    .withWaitStrategy(Wait.forLogMessage(/database system is ready to accept connections/))
    .start()
  return {
    connection: {
      host: container.getHost(),
      port: container.getMappedPort(PORT),
      user: 'postgres',
      database: 'postgres',
      password,
    },
    async stop() {
      await container.stop()
    },
  }
}
