import { lp } from '../bytes/lp.ts'

declare const rowId: unique symbol
/** Canonical bytes of a row's key: LP(LP(u8 kind, bytes), …), columns sorted by the UTF-8 bytes of their field id. */
export type RowId = Uint8Array & { readonly [rowId]: true }

/**
 * Kind of a key column, by its stored type. `string` only where equality is byte equality; everything else is `other`
 * and leaves rows unbound.
 */
export type RowKeyKind = 'integer' | 'uuid' | 'objectid' | 'string' | 'other'

const KIND_BYTES = { integer: 1, uuid: 2, objectid: 3, string: 4 } as const

const PREFIXES = ['', 'int:', 'uuid:', 'oid:', 'str:'] as const

/** A row id in readable form: `int:-7`, `uuid:` with hyphens, `oid:` in hex, `str:`, joined by `,` in the order of its columns. */
export function rowIdText(rowId: RowId): string {
  const bytes = Buffer.from(rowId.buffer, rowId.byteOffset, rowId.byteLength)
  return itemsOf(bytes)
    .map((column) => {
      const [kind = Buffer.alloc(1), value = Buffer.alloc(0)] = itemsOf(column)
      return `${PREFIXES[kind[0] ?? 0] ?? ''}${keyText(kind[0], value)}`
    })
    .join(',')
}

function keyText(kind: number | undefined, value: Buffer): string {
  const hex = () => value.toString('hex')
  if (kind === KIND_BYTES.uuid) return hex().replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
  return kind === KIND_BYTES.objectid ? hex() : value.toString('utf8')
}

/** The items of an LP that this process made. */
function itemsOf(bytes: Buffer): Buffer[] {
  const items: Buffer[] = []
  for (let at = 2; at < bytes.length; ) {
    const end = at + 4 + bytes.readUInt32BE(at)
    items.push(bytes.subarray(at + 4, end))
    at = end
  }
  return items
}

/** The canonical bytes of one key value, or undefined when it has no canonical form (unknown, of another type, unsafe). */
export function canonicalKeyBytes(kind: RowKeyKind, value: unknown): Uint8Array | undefined {
  switch (kind) {
    case 'integer':
      return integerText(value)
    case 'uuid':
      return typeof value === 'string' && /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(value)
        ? Buffer.from(value.replaceAll('-', ''), 'hex')
        : undefined
    case 'objectid':
      return objectIdBytes(value)
    case 'string':
      return typeof value === 'string' && value.isWellFormed() ? Buffer.from(value, 'utf8') : undefined
    case 'other':
      return undefined
  }
}

/** Row id of a key whose columns are given in order of the UTF-8 bytes of their ids; undefined when one is not canonical. */
export function rowIdOf(columns: readonly { readonly kind: RowKeyKind; readonly value: unknown }[]): RowId | undefined {
  const parts: Uint8Array[] = []
  for (const { kind, value } of columns) {
    const bytes = canonicalKeyBytes(kind, value)
    if (bytes === undefined || kind === 'other') return undefined
    parts.push(lp(Uint8Array.of(KIND_BYTES[kind]), bytes))
  }
  return parts.length === 0 ? undefined : (lp(...parts) as RowId) // the only maker of row ids
}

/** `0` or `-?[1-9][0-9]*`: a number only when safe, a bigint, or the text that drivers return for bigint columns. */
function integerText(value: unknown): Uint8Array | undefined {
  const text =
    typeof value === 'bigint' || (typeof value === 'number' && Number.isSafeInteger(value)) ? String(value) : value
  return typeof text === 'string' && /^(0|-?[1-9][0-9]*)$/.test(text) ? Buffer.from(text, 'ascii') : undefined
}

function objectIdBytes(value: unknown): Uint8Array | undefined {
  const hex = hasHexString(value) ? value.toHexString() : value
  return typeof hex === 'string' && /^[0-9a-f]{24}$/i.test(hex) ? Buffer.from(hex, 'hex') : undefined
}

/** An ObjectId of any copy of the bson package. */
function hasHexString(value: unknown): value is { toHexString(): unknown } {
  return (
    typeof value === 'object' && value !== null && 'toHexString' in value && typeof value.toHexString === 'function'
  )
}

/**
 * The one text of a tenant or data subject: as given for a string or an unknown kind, decimal for an integer, lower case
 * for a uuid and an ObjectId. Undefined for what has none.
 */
export function canonicalText(value: unknown, kind: RowKeyKind | undefined): string | undefined {
  if (kind === 'uuid' || kind === 'objectid') {
    return canonicalKeyBytes(kind, value) === undefined ? undefined : String(value).toLowerCase()
  }
  const integer = integerText(value)
  if (integer !== undefined) return Buffer.from(integer).toString('ascii')
  return kind !== 'integer' && typeof value === 'string' && value !== '' && value.isWellFormed() ? value : undefined
}
