import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'

/** What happens at a write: while it is awaited, the write (`before`) or its answer (`after`) is held. */
export type Strike = () => unknown

/** Stands between a process and its database, and strikes at the statements that change something. */
export interface FaultyWire {
  readonly url: string
  /** Connections that are open. */
  readonly connections: number
  /** Writes that were sent since the last `strike`. */
  readonly writes: number
  /** Strikes at the n-th write from now: before the database has it, or when it is done and nobody has heard of it. */
  strike(n: number, when: 'before' | 'after', strike: Strike): void
  /** Cuts every connection. */
  cut(): void
  /** New connections are cut at once, as by a server that is down. */
  down: boolean
  close(): Promise<void>
}

/** @param url of a PostgreSQL or MongoDB server, without TLS */
export async function faultyWire(url: string): Promise<FaultyWire> {
  const target = new URL(url)
  const isMongo = target.protocol === 'mongodb:'
  const own = new URL(url)
  // Else the driver asks the members that the server names.
  if (isMongo) own.searchParams.set('directConnection', 'true')
  own.searchParams.delete('replicaSet')
  const sockets = new Set<Socket>()
  let planned: { readonly at: number; readonly when: 'before' | 'after'; readonly strike: Strike } | undefined
  let writes = 0

  async function relay(client: Socket): Promise<void> {
    const server = connect(Number(target.port), target.hostname)
    let after: Strike | undefined
    for (const socket of [client, server]) {
      sockets.add(socket)
      socket.setNoDelay(true).on('error', () => undefined)
      socket.on('close', () => {
        sockets.delete(socket)
        client.destroy()
        server.destroy()
      })
    }
    server.on('data', (chunk: Buffer) => {
      if (after === undefined || !(isMongo || endsCycle(chunk))) return void client.write(chunk)
      const strike = after
      after = undefined
      server.pause()
      void Promise.resolve(strike()).then(() => {
        client.write(chunk)
        server.resume()
      })
    })
    const messages = isMongo ? mongoMessages() : postgresMessages()
    try {
      for await (const chunk of client as AsyncIterable<Buffer>)
        for (const { bytes, isWrite } of messages(chunk)) {
          if (isWrite && ++writes === planned?.at) {
            const { when, strike } = planned
            planned = undefined
            if (when === 'before') await strike()
            else after = strike
          }
          server.write(bytes)
        }
    } catch {
      // The client is gone.
    }
    server.destroy()
  }

  const wire = { down: false }
  const listener = createServer((client) => {
    if (wire.down) client.destroy()
    else void relay(client)
  })
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const host = `127.0.0.1:${(listener.address() as AddressInfo).port}`
  return Object.assign(wire, {
    url: own.href.replace(target.host, host),
    get connections() {
      return sockets.size / 2
    },
    get writes() {
      return writes
    },
    strike(n: number, when: 'before' | 'after', strike: Strike) {
      writes = 0
      planned = { at: n, when, strike }
    },
    cut() {
      for (const socket of sockets) socket.destroy()
    },
    async close() {
      listener.close()
      for (const socket of sockets) socket.destroy()
      await once(listener, 'close')
    },
  })
}

interface Message {
  readonly bytes: Buffer
  readonly isWrite: boolean
}

const CHANGES = /^\s*(INSERT|DELETE)\b|\bUPDATE\s+\S+\s+(t\s+)?SET\b/i

/** Cuts a stream into PostgreSQL's messages; the first of a connection has no type. */
function postgresMessages(): (chunk: Buffer) => Message[] {
  let rest: Buffer = Buffer.alloc(0)
  let started = false
  return (chunk) => {
    rest = Buffer.concat([rest, chunk])
    const found: Message[] = []
    for (;;) {
      const lengthAt = started ? 1 : 0
      if (rest.length < lengthAt + 4) return found
      const end = lengthAt + rest.readUInt32BE(lengthAt)
      if (rest.length < end) return found
      const bytes = rest.subarray(0, end)
      const type = started ? String.fromCharCode(bytes[0] ?? 0) : ''
      found.push({ bytes, isWrite: 'PQ'.includes(type) && type !== '' && CHANGES.test(statementIn(bytes, type)) })
      rest = rest.subarray(end)
      started = true
    }
  }
}

/** Parse has the name of a prepared statement first. */
function statementIn(message: Buffer, type: string): string {
  const from = type === 'P' ? message.indexOf(0, 5) + 1 : 5
  return message.toString('utf8', from, message.indexOf(0, from))
}

/** Whether a chunk of the server ends with ReadyForQuery. */
function endsCycle(chunk: Buffer): boolean {
  return chunk.length >= 6 && chunk.readUIntBE(chunk.length - 6, 5) === 0x5a00000005
}

const COMMANDS = new Set(['insert', 'update', 'delete', 'findAndModify'])

function mongoMessages(): (chunk: Buffer) => Message[] {
  let rest: Buffer = Buffer.alloc(0)
  return (chunk) => {
    rest = Buffer.concat([rest, chunk])
    const found: Message[] = []
    while (rest.length >= 4 && rest.length >= rest.readUInt32LE(0)) {
      const bytes = rest.subarray(0, rest.readUInt32LE(0))
      // Header, flags and the kind of the first section, then a document whose first member names the command.
      const nameAt = 16 + 4 + 1 + 4 + 1
      const name = bytes.toString('utf8', nameAt, bytes.indexOf(0, nameAt))
      found.push({ bytes, isWrite: COMMANDS.has(name) })
      rest = rest.subarray(bytes.length)
    }
    return found
  }
}
