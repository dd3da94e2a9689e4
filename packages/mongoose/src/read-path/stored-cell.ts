import { isEnvelope, plainCell, type Envelope, type Field } from '@fieldseal/core/adapter'
import { mongo } from 'mongoose'
import { isDoc } from '../bson/documents.ts'
import { toCoreValue } from '../bson/driver-values.ts'

const { Binary } = mongo

/** A value as the driver read it, where it is stored unencrypted. */
export interface StoredPlain {
  readonly shown: unknown
}

/** What one encrypted path holds. */
export interface StoredLeaf {
  /** An envelope, a plain cell, null; or what is none of these, which core refuses. */
  readonly value: unknown
  readonly tokens: readonly (Uint8Array | undefined)[]
  readonly plain?: StoredPlain
}

/** The envelope of a leaf, and its tokens. What is neither goes to core as it is, which refuses it. */
export function leafOf(stored: unknown): StoredLeaf {
  if (stored === null) return { value: null, tokens: [] }
  if (!isDoc(stored)) return { value: bytesOf(stored) ?? NOT_SEALED, tokens: [] }
  return { value: bytesOf(stored['c']) ?? NOT_SEALED, tokens: [bytesOf(stored['b']), bytesOf(stored['n'])] }
}
const NOT_SEALED = Object.freeze({})

/** The same where the old plaintext may stand at the path itself. BSON tells it from an envelope. */
export function leafInPlace(field: Field, stored: unknown): StoredLeaf {
  if (field.state === 'encrypted' || bytesOf(stored) !== undefined) return leafOf(stored)
  const value = stored === null ? null : plainCell(field.path, fieldValue(field, stored), { stored })
  return { value, tokens: [], plain: { shown: stored } }
}

/**
 * The same where the old plaintext stands beside the path. Where both places hold a value, the plaintext is the newer one:
 * every write of ours clears it, and whoever writes it alone knows no envelopes.
 *
 * @returns undefined where neither holds a value
 */
export function leafBeside(field: Field, own: unknown, old: unknown): StoredLeaf | undefined {
  const leaf = leafOf(own ?? null)
  if (old !== undefined && old !== null) {
    const plain = { shown: old }
    if (field.state === 'encrypted') return { ...leaf, value: NOT_SEALED, plain }
    const outlived = isEnvelope(leaf.value) ? (leaf.value as Uint8Array as Envelope) : undefined
    const path = field.plaintextIn ?? field.path
    return { ...leaf, value: plainCell(path, fieldValue(field, old), { stored: old, outlived }), plain }
  }
  if (own === undefined || (own === null && !field.encryptNull)) return undefined
  return field.state !== 'encrypted' && (own === null || isTokens(own)) ? undefined : leaf
}

/** Whether a value is a leaf as we write it, where plaintext of any type may stand as well: bytes that look like an envelope. */
export function isSealedLeaf({ blindIndex }: Field, stored: unknown): boolean {
  const sealed = blindIndex === undefined ? stored : isDoc(stored) ? stored['c'] : undefined
  const isOurs = sealed instanceof Binary && sealed.sub_type === Binary.SUBTYPE_USER_DEFINED
  return isOurs && isEnvelope(sealed.value())
}

/** Tokens of a value that stands elsewhere. */
export function isTokens(leaf: unknown): boolean {
  return isDoc(leaf) && leaf['c'] === undefined && Object.keys(leaf).every((name) => name === 'b' || name === 'n')
}

/** A plain value as core's codec takes it; as it is where it does not fit its field, so that whoever needs that is told. */
function fieldValue({ type }: Field, stored: unknown): unknown {
  try {
    return toCoreValue(type, stored)
  } catch {
    return stored
  }
}

export function bytesOf(value: unknown): Uint8Array | undefined {
  if (value instanceof Binary) return value.value()
  return value instanceof Uint8Array ? value : undefined
}
