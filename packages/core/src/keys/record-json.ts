import { isRecordId, type RecordId } from '../context/record-id.ts'
import { FieldsealError } from '../errors/fieldseal-error.ts'
import { MAX_BLOB_BYTES, MAX_LABEL_BYTES } from '../envelope/layout.ts'
import type { DirectKeyRecord, IndexRecord, KekRecord, KeyStoreRecord, StoredWrap } from './records.ts'

const MAX_WRAPS = 16
const MAX_TEXT = 4_096
const DENIALS = ['retired', 'pending-destruction', 'destroyed'] as const

/** A record as JSON text for a key store: bytes as base64url, instants as epoch milliseconds, absent facts left out. */
export function recordToJson(record: KeyStoreRecord): string {
  return JSON.stringify(record, function (this: Record<string, unknown>, key) {
    const value = this[key] // before toJSON, which Buffers have
    return value instanceof Uint8Array
      ? Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('base64url')
      : value
  })
}

/**
 * The record of a JSON text from a key store. Untrusted: every member is checked for type and range, unknown ones are
 * dropped. What it says is believed only after its MAC was checked.
 *
 * @throws FieldsealError ERR_KEY_RECORD_INVALID
 */
export function recordFromJson(text: string): KeyStoreRecord {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    throw invalid('not JSON')
  }
  const members = reader(json)
  const kind = members.choice('kind', ['kek', 'index', 'direct'])
  return kind === 'kek' ? kekRecord(members) : kind === 'index' ? indexRecord(members) : directRecord(members)
}

function kekRecord(m: Reader): KekRecord {
  return {
    id: m.id('id'),
    kind: 'kek',
    app: m.text('app'),
    tenant: m.text('tenant'),
    keyspace: m.text('keyspace'),
    purpose: m.choice('purpose', ['wrap', 'index']),
    version: m.integer('version', 1, 2 ** 32 - 1),
    revision: m.integer('revision', 1),
    state: m.choice('state', ['active', 'decrypt-only', 'retired', 'pending-destruction', 'destroyed']),
    createdAt: m.integer('createdAt', 0),
    ...m.optional('notAfter', (name) => m.integer(name, 0)),
    ...m.optional('destroyAt', (name) => m.integer(name, 0)),
    ...m.optional('parent', (name) => m.id(name)),
    compromised: m.flag('compromised'),
    mac: m.bytes('mac', 32, 32),
    wraps: m.list('wraps', MAX_WRAPS).map(storedWrap),
    ...m.optional('denial', (name) => m.choice(name, DENIALS)),
    rowVersion: m.integer('rowVersion', 1),
  }
}

function storedWrap(json: unknown): StoredWrap {
  const m = reader(json)
  return {
    provider: m.text('provider'),
    uri: m.text('uri'),
    blob: m.bytes('blob', 1, MAX_BLOB_BYTES),
    ...m.optional('keyVersion', (name) => m.text(name, MAX_LABEL_BYTES)),
    versionEvidence: m.choice('versionEvidence', ['reported', 'requested', 'parsed', 'unknown']),
    wrappedAt: m.integer('wrappedAt', 0),
  }
}

function indexRecord(m: Reader): IndexRecord {
  return {
    id: m.id('id'),
    kind: 'index',
    app: m.text('app'),
    tenant: m.text('tenant'),
    model: m.text('model'),
    index: m.text('index'),
    epoch: m.integer('epoch', 1, 255),
    kekId: m.id('kekId'),
    normalizer: m.text('normalizer'),
    bits: m.integer('bits', 16, 256),
    role: m.choice('role', ['current', 'next', 'old']),
    revision: m.integer('revision', 1),
    mac: m.bytes('mac', 32, 32),
    rowVersion: m.integer('rowVersion', 1),
  }
}

function directRecord(m: Reader): DirectKeyRecord {
  return {
    id: m.id('id'),
    kind: 'direct',
    app: m.text('app'),
    tenant: m.text('tenant'),
    keyspace: m.text('keyspace'),
    provider: m.text('provider'),
    uri: m.text('uri'),
    createdAt: m.integer('createdAt', 0),
    ...m.optional('denial', (name) => m.choice(name, DENIALS)),
    rowVersion: m.integer('rowVersion', 1),
  }
}

type Reader = ReturnType<typeof reader>

/** Typed access to the members of an untrusted object. */
function reader(json: unknown) {
  if (!isObject(json)) throw invalid('not an object')
  const get = (name: string): unknown => (Object.hasOwn(json, name) ? json[name] : undefined)
  const m = {
    text(name: string, maxBytes = MAX_TEXT): string {
      const value = get(name)
      if (typeof value !== 'string' || value === '' || !value.isWellFormed() || Buffer.byteLength(value) > maxBytes)
        throw invalid(name)
      return value
    },
    integer(name: string, least: number, most = Number.MAX_SAFE_INTEGER): number {
      const value = get(name)
      if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < least || value > most)
        throw invalid(name)
      return value
    },
    flag(name: string): boolean {
      const value = get(name)
      if (typeof value !== 'boolean') throw invalid(name)
      return value
    },
    choice<C extends string>(name: string, choices: readonly C[]): C {
      const value = get(name)
      const found = choices.find((choice) => choice === value)
      if (found === undefined) throw invalid(name)
      return found
    },
    id(name: string): RecordId {
      const value = get(name)
      if (!isRecordId(value)) throw invalid(name)
      return value
    },
    bytes(name: string, least: number, most: number): Uint8Array {
      const text = m.text(name, Math.ceil((most * 4) / 3))
      const bytes = Buffer.from(text, 'base64url')
      if (bytes.toString('base64url') !== text || bytes.length < least || bytes.length > most) throw invalid(name)
      return bytes
    },
    list(name: string, most: number): readonly unknown[] {
      const value = get(name)
      if (!Array.isArray(value) || value.length > most) throw invalid(name)
      return value
    },
    optional<N extends string, V>(name: N, read: (name: N) => V): { readonly [K in N]?: V } {
      return get(name) === undefined ? {} : ({ [name]: read(name) } as { [K in N]?: V }) // one member, named by N
    },
  }
  return m
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function invalid(member: string): FieldsealError {
  return new FieldsealError('ERR_KEY_RECORD_INVALID', { reason: member })
}
