import { arrayElement, documentOf, elementsOf } from './bson-elements.ts'

/** The messages of MongoDB's wire protocol that drivers still send; OP_QUERY only for the first `hello`. */
const OP_REPLY = 1
const OP_QUERY = 2004
const OP_MSG = 2013

const HEAD_BYTES = 16
const CHECKSUM_PRESENT = 1
const MORE_TO_COME = 2
/** Servers refuse more; what we announce as `maxMessageSizeBytes`. */
export const MAX_MESSAGE_BYTES = 48_000_000

export interface Message {
  readonly requestId: number
  readonly opCode: number
  /** The command; document sequences have become its arrays. */
  readonly command: Buffer
  /** The sender waits for no answer. */
  readonly isOneWay: boolean
}

/** Cuts a stream into messages, each given to `onMessage` whole. */
export function messageSplitter(onMessage: (message: Buffer) => void): (chunk: Buffer) => void {
  let chunks: Buffer[] = []
  let received = 0
  let wanted = 4
  return (chunk) => {
    chunks.push(chunk)
    received += chunk.length
    while (received >= wanted) {
      const all = chunks.length === 1 ? (chunks[0] ?? Buffer.alloc(0)) : Buffer.concat(chunks)
      const length = all.readInt32LE(0)
      if (length < HEAD_BYTES || length > MAX_MESSAGE_BYTES) throw new Error(`a message of ${length} bytes`)
      if (received >= length) onMessage(all.subarray(0, length))
      const rest = received >= length ? all.subarray(length) : all
      wanted = received >= length ? 4 : length
      received = rest.length
      chunks = received === 0 ? [] : [rest]
    }
  }
}

/** @throws Error when the message is none that a driver of our time sends */
export function parseMessage(message: Buffer): Message {
  const requestId = message.readInt32LE(4)
  const opCode = message.readInt32LE(12)
  if (opCode === OP_QUERY) return { requestId, opCode, command: queryCommand(message), isOneWay: false }
  if (opCode !== OP_MSG) throw new Error(`opcode ${opCode} is not supported`)
  const flags = message.readUInt32LE(HEAD_BYTES)
  const end = message.length - (flags & CHECKSUM_PRESENT ? 4 : 0)
  let body: Buffer | undefined
  const sequences: Buffer[] = []
  for (let at = HEAD_BYTES + 4; at < end; ) {
    const kind = message[at]
    const section = message.subarray(at + 1, at + 1 + message.readInt32LE(at + 1))
    if (kind === 0) body = section
    else if (kind === 1) sequences.push(sequenceElement(section))
    else throw new Error(`section kind ${kind} is not supported`)
    at += 1 + section.length
  }
  if (!body) throw new Error('a message without a body')
  const command =
    sequences.length === 0 ? body : documentOf([...elementsOf(body).map(({ bytes }) => bytes), ...sequences])
  return { requestId, opCode, command, isOneWay: (flags & MORE_TO_COME) !== 0 }
}

export function encodeReply(request: Message, replyId: number, body: Buffer): Buffer {
  const isQuery = request.opCode === OP_QUERY
  const head = Buffer.alloc(isQuery ? HEAD_BYTES + 20 : HEAD_BYTES + 5)
  head.writeInt32LE(head.length + body.length, 0)
  head.writeInt32LE(replyId, 4)
  head.writeInt32LE(request.requestId, 8)
  head.writeInt32LE(isQuery ? OP_REPLY : OP_MSG, 12)
  if (isQuery) head.writeInt32LE(1, HEAD_BYTES + 16) // one document follows
  return Buffer.concat([head, body])
}

function queryCommand(message: Buffer): Buffer {
  const nameEnd = message.indexOf(0, HEAD_BYTES + 4)
  const [SKIP_AND_LIMIT_BYTES] = [8]
  const at = nameEnd + 1 + SKIP_AND_LIMIT_BYTES
  return message.subarray(at, at + message.readInt32LE(at))
}

function sequenceElement(section: Buffer): Buffer {
  const nameEnd = section.indexOf(0, 4)
  const documents: Buffer[] = []
  for (let at = nameEnd + 1; at < section.length; ) {
    const document = section.subarray(at, at + section.readInt32LE(at))
    documents.push(document)
    at += document.length
  }
  return arrayElement(section.toString('utf8', 4, nameEnd), documents)
}
