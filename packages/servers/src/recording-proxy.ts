import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { hostOf, withHost } from './mongo-uri.ts'

export interface RecordingProxy {
  /** Connects to the same server, through the proxy. */
  readonly uri: string
  /** Every byte that clients have sent, one buffer per connection. */
  bytesSent(): Buffer[]
  /** Forgets what was sent so far. */
  clear(): void
  close(): Promise<void>
}

/**
 * Stands between clients and a PostgreSQL or MongoDB server, without TLS, and keeps what the clients send, so that a
 * test can search it for plaintexts.
 *
 * @param uri of the server; for a replica set that of its primary
 */
export async function recordingProxy(uri: string): Promise<RecordingProxy> {
  const target = targetOf(uri)
  const connections: Buffer[][] = []
  const sockets = new Set<Socket>()
  const track = (socket: Socket): void => {
    sockets.add(socket)
    socket.setNoDelay(true).on('close', () => sockets.delete(socket))
  }
  const listener = createServer((client) => {
    const sent: Buffer[] = []
    connections.push(sent)
    const server = connect(target)
    for (const socket of [client, server]) track(socket)
    client.on('data', (chunk: Buffer) => sent.push(Buffer.from(chunk)))
    client.pipe(server).pipe(client)
    client.on('error', () => server.destroy())
    server.on('error', () => client.destroy())
  })
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const host = `127.0.0.1:${(listener.address() as AddressInfo).port}`
  return {
    uri: target.isMongo ? withHost(uri, host) : Object.assign(new URL(uri), { host }).href,
    bytesSent: () => connections.map((chunks) => Buffer.concat(chunks)).filter((bytes) => bytes.length > 0),
    clear() {
      for (const chunks of connections) chunks.length = 0
    },
    async close() {
      listener.close()
      for (const socket of sockets) socket.destroy()
      await once(listener, 'close')
    },
  }
}

function targetOf(uri: string): { host: string; port: number; isMongo: boolean } {
  const isMongo = uri.startsWith('mongodb')
  const { hostname, port } = isMongo ? new URL(`tcp://${hostOf(uri)}`) : new URL(uri)
  return { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port || (isMongo ? 27017 : 5432)), isMongo }
}
