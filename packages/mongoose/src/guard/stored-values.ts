import { isEnvelope } from '@fieldseal/core/adapter'
import { mongo } from 'mongoose'
import { isDoc, type Doc } from '../bson/documents.ts'
import type { PathNode } from '../path-graph/path-node.ts'
import { touchesEncrypted } from '../path-graph/walk-path.ts'

const { Binary, DBRef } = mongo

/** Epoch and 256 bits. */
const LONGEST_TOKEN = 33

/** What the driver's serializer makes of a value: documents and arrays of Mongoose say it themselves. */
export function asSent(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  const { toBSON } = value as { readonly toBSON?: unknown }
  return typeof toBSON === 'function' ? (toBSON.call(value) as unknown) : value
}

/**
 * The first path of a document, or of a part of one, where something else is stored than null, an envelope or
 * `{ c, b, n }`, and its field may not be stored unencrypted there.
 */
export function plaintextIn(given: unknown, node: PathNode, path = ''): string | undefined {
  const value = asSent(given)
  if (value === null || value === undefined || !node.conceals) return undefined
  if (node.plainOf !== undefined) return node.plainOf.state === 'plaintext' ? undefined : path
  if (node.tokensOf !== undefined) return areTokens(value) ? undefined : path
  if (node.annotation !== undefined) return isLeaf(value) || mayHoldTokens(node, value) ? undefined : path
  if (Array.isArray(value)) return firstOf(value, (each) => plaintextIn(each, node.element ?? node, path))
  if (node.element !== undefined) return plaintextIn(value, node.element, path)
  return firstOf(keysOf(value), ([key, each]) => {
    const [name, below] = [String(key), path === '' ? String(key) : `${path}.${String(key)}`]
    const child = node.child(name)
    if (child !== undefined) return plaintextIn(each, child, below)
    return name.includes('.') && touchesEncrypted(node, name) ? below : undefined
  })
}

/** The names that a value is stored with, and what stands there. */
function keysOf(value: unknown): [unknown, unknown][] {
  if (value instanceof Map) return [...value]
  if (value instanceof DBRef) return Object.entries(value.fields)
  return isDoc(value) ? Object.entries(value) : []
}

/** Tokens stand alone beside a value that is stored unencrypted. */
function mayHoldTokens({ state, plainName }: PathNode, given: unknown): boolean {
  return state !== 'encrypted' && plainName !== undefined && areTokens(given)
}

function areTokens(given: unknown): boolean {
  const value = asSent(given)
  return isDoc(value) && Object.entries(value).every(([key, each]) => isSlot(key, each))
}

/** What an encrypted path holds. */
export function isLeaf(given: unknown): boolean {
  const value = asSent(given)
  if (isSealed(value)) return true
  if (!isDoc(value)) return false
  return isSealed(value['c']) && Object.entries(value).every(([key, each]) => key === 'c' || isSlot(key, each))
}

export function isSealed(value: unknown): boolean {
  return isEnvelope(value instanceof Binary ? value.value() : value)
}

function isSlot(key: string, value: unknown): boolean {
  return (key === 'b' || key === 'n') && isToken(value)
}

/** Tokens are told from other bytes by their subtype and their length. */
export function isToken(value: unknown): boolean {
  return value instanceof Binary && value.sub_type === Binary.SUBTYPE_USER_DEFINED && value.length() <= LONGEST_TOKEN
}

export function firstOf<T, R>(items: readonly T[], check: (item: T) => R | undefined): R | undefined {
  for (const item of items) {
    const found = check(item)
    if (found !== undefined) return found
  }
  return undefined
}

export function entriesOf(value: unknown): [string, unknown][] {
  const sent = asSent(value)
  return isDoc(sent) ? Object.entries(sent) : []
}

/** The driver sends lists of documents as arrays, or as sequences that hold one. */
export function listOf(value: unknown): readonly unknown[] {
  const sent = asSent(value)
  if (Array.isArray(sent)) return sent
  const { documents }: Doc = isDoc(sent) ? sent : {}
  return Array.isArray(documents) ? documents : []
}
