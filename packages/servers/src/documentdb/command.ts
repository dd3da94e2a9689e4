import { Binary } from 'bson'
import { documentOf, elementsOf, valueOf, type Element } from './bson-elements.ts'

/** Fields between driver and server that the engine does not know. */
const FOR_THE_SERVER = new Set([
  '$db',
  '$clusterTime',
  '$readPreference',
  'lsid',
  'txnNumber',
  'startTransaction',
  'autocommit',
  'readConcern',
  'writeConcern',
  'apiVersion',
  'apiStrict',
  'apiDeprecationErrors',
  'maxCommitTimeMS',
])

export interface Command {
  /** As sent: `findAndModify`. */
  readonly name: string
  readonly database: string
  /** The command for the engine, byte by byte as the driver wrote it. */
  readonly body: Buffer
  /** The session, in hex; undefined when the driver sent none. */
  readonly session: string | undefined
  /** Set on every command of a transaction. */
  readonly transaction: { readonly number: bigint; readonly starts: boolean } | undefined
  /** One field, decoded; undefined when absent. */
  get(field: string): unknown
}

/** @throws Error when the document has no field */
export function parseCommand(document: Buffer): Command {
  const elements = elementsOf(document)
  const [first] = elements
  if (!first) throw new Error('an empty command')
  const byName = new Map<string, Element>(elements.map((element) => [element.name, element]))
  const get = (field: string): unknown => {
    const element = byName.get(field)
    return element && valueOf(element)
  }
  const database = get('$db')
  const session = get('lsid')
  return {
    name: first.name,
    database: typeof database === 'string' ? database : 'admin',
    body: documentOf(elements.filter(({ name }) => !FOR_THE_SERVER.has(name)).map(({ bytes }) => bytes)),
    session: isSessionId(session) ? session.id.toString('hex') : undefined,
    transaction:
      get('autocommit') === false
        ? { number: BigInt(Number(get('txnNumber') ?? 0)), starts: get('startTransaction') === true }
        : undefined,
    get,
  }
}

function isSessionId(value: unknown): value is { readonly id: Binary } {
  return typeof value === 'object' && value !== null && 'id' in value && value.id instanceof Binary
}
