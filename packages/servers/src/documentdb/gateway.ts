import { once } from 'node:events'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import type { PoolConfig } from 'pg'
import { parseCommand } from './command.ts'
import { createCursors } from './cursors.ts'
import { callEngine, enginePool } from './engine-client.ts'
import { oneAtATime } from './one-at-a-time.ts'
import { runCommand } from './run-command.ts'
import { createSessions } from './sessions.ts'
import { encodeReply, messageSplitter, parseMessage } from './wire.ts'

export interface Gateway {
  readonly uri: string
  /** The engine's: `1.0-0`. */
  readonly version: string
  close(): Promise<void>
}

/**
 * Speaks MongoDB's wire protocol on a port of 127.0.0.1, in front of a PostgreSQL that has the DocumentDB extension.
 *
 * A command goes to the engine as the driver encoded it, and the engine's documents come back as they are; this side
 * keeps cursors and transactions, and translates errors.
 */
export async function startGateway(engine: PoolConfig): Promise<Gateway> {
  const pool = enginePool(engine)
  const cursors = createCursors(pool)
  const sessions = createSessions(pool, (client) => cursors.forget(client))
  const [version] = await callEngine<readonly [string]>(
    pool,
    "SELECT extversion FROM pg_extension WHERE extname = 'documentdb'",
    [],
  )
  const server = { pool, cursors, sessions, alone: oneAtATime(), version }
  const sockets = new Set<Socket>()
  let replies = 0

  async function answer(socket: Socket, bytes: Buffer): Promise<void> {
    const message = parseMessage(bytes)
    const reply = await runCommand(server, parseCommand(message.command))
    if (!message.isOneWay && socket.writable) socket.write(encodeReply(message, ++replies, reply))
  }

  const listener = createServer((socket) => {
    sockets.add(socket)
    socket.setNoDelay(true).unref()
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => socket.destroy())
    // One after the other: a driver pairs answers with questions, but relies on their order.
    let last = Promise.resolve()
    const split = messageSplitter((bytes) => {
      last = last
        .then(() => answer(socket, bytes))
        .catch((error: unknown) => {
          process.stderr.write(`DocumentDB gateway: ${String(error)}\n`)
          socket.destroy()
        })
    })
    socket.on('data', (chunk: Buffer) => {
      try {
        split(chunk)
      } catch {
        socket.destroy() // not our protocol
      }
    })
  })
  listener.listen(0, '127.0.0.1').unref()
  await once(listener, 'listening')
  return {
    uri: `mongodb://127.0.0.1:${(listener.address() as AddressInfo).port}/`,
    version,
    async close() {
      listener.close()
      for (const socket of sockets) socket.destroy()
      await cursors.close()
      await sessions.close()
      await pool.end()
    },
  }
}
