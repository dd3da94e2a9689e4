import { once } from 'node:events'
import { connect } from 'node:net'
import { deserialize, serialize, type Document } from 'bson'
import { MongoClient } from 'mongodb'
import { describe, expect, it } from 'vitest'
import { parseCommand } from '../src/documentdb/command.ts'
import { encodeReply, MAX_MESSAGE_BYTES, messageSplitter, parseMessage } from '../src/documentdb/wire.ts'
import { hasMongo, useMongoDatabase } from '../vitest/index.ts'

const [OP_MSG, OP_QUERY] = [2013, 2004]

function message(opCode: number, ...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts)
  const head = Buffer.alloc(16)
  head.writeInt32LE(16 + body.length, 0)
  head.writeInt32LE(7, 4)
  head.writeInt32LE(opCode, 12)
  return Buffer.concat([head, body])
}

const flags = (bits: number) => Buffer.from(Uint32Array.of(bits).buffer)
const body = (document: Document) => Buffer.concat([Buffer.of(0), serialize(document)])
const sequence = (name: string, ...documents: readonly Document[]) => {
  const section = Buffer.concat([Buffer.alloc(4), Buffer.from(`${name}\0`), ...documents.map((d) => serialize(d))])
  section.writeInt32LE(section.length, 0)
  return Buffer.concat([Buffer.of(1), section])
}

describe('wire messages', () => {
  it('come out whole, however they were cut on the way', () => {
    const messages = [{ ping: 1 }, { insert: 'c', documents: [{ a: 'x'.repeat(300) }] }, { hello: 1 }].map((document) =>
      message(OP_MSG, flags(0), body(document)),
    )
    const stream = Buffer.concat(messages)
    for (const size of [1, 3, 16, 17, 100, stream.length]) {
      const got: Buffer[] = []
      const push = messageSplitter((whole) => got.push(Buffer.from(whole)))
      for (let at = 0; at < stream.length; at += size) push(stream.subarray(at, at + size))
      expect(got).toEqual(messages)
    }
  })

  it('of a length that cannot be are refused before they have arrived', () => {
    for (const length of [0, 15, -1, MAX_MESSAGE_BYTES + 1]) {
      const head = Buffer.alloc(4)
      head.writeInt32LE(length)
      expect(() => messageSplitter(() => {})(head)).toThrow(/a message of -?\d+ bytes/)
    }
  })

  it('have document sequences as arrays of the command, and may have a checksum', () => {
    const sections = [body({ insert: 'c', $db: 'd' }), sequence('documents', { a: 1 }, { b: 2 })]
    const { command, isOneWay } = parseMessage(message(OP_MSG, flags(3), ...sections, Buffer.alloc(4)))
    expect(deserialize(command)).toEqual({ insert: 'c', $db: 'd', documents: [{ a: 1 }, { b: 2 }] })
    expect(isOneWay).toBe(true)
  })

  it('may be the query by which drivers say hello, and are answered in kind', () => {
    const query = [flags(0), Buffer.from('admin.$cmd\0'), Buffer.alloc(8), Buffer.from(serialize({ isMaster: 1 }))]
    const request = parseMessage(message(OP_QUERY, ...query))
    expect(deserialize(request.command)).toEqual({ isMaster: 1 })
    const reply = encodeReply(request, 1, Buffer.from(serialize({ ok: 1 })))
    expect([reply.readInt32LE(0), reply.readInt32LE(8), reply.readInt32LE(12)]).toEqual([reply.length, 7, 1])
    expect(deserialize(reply.subarray(36))).toEqual({ ok: 1 })
  })
})

describe('a command for the engine', () => {
  it('is what the driver wrote, without what is meant for the server', () => {
    const document = serialize(
      new Map<string, unknown>([
        ['find', 'c'],
        [
          'filter',
          new Map([
            ['9', 1],
            ['1', 2],
          ]),
        ],
      ]) as Document,
    )
    const sent = serialize({ find: 'c', filter: {}, $db: 'd', lsid: { id: 1 }, readConcern: {}, $clusterTime: {} })
    expect(parseCommand(Buffer.from(sent)).body).toEqual(Buffer.from(serialize({ find: 'c', filter: {} })))
    expect(parseCommand(Buffer.from(document)).body).toEqual(Buffer.from(document))
  })
})

describe.runIf(hasMongo())('the server of this run', () => {
  const database = useMongoDatabase()

  it('closes a connection that speaks another protocol, and goes on', async () => {
    const { hostname, port } = new URL(database.uri.replace('mongodb:', 'tcp:'))
    const socket = connect(Number(port), hostname)
    socket.on('error', () => {})
    socket.write('GET / HTTP/1.1\r\n\r\n')
    await once(socket.resume(), 'close')
    const client = new MongoClient(database.uri)
    expect(await client.db().command({ ping: 1 })).toMatchObject({ ok: 1 })
    await client.close()
  })
})
