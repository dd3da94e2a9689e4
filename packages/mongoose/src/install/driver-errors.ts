import { isFieldsealError } from '@fieldseal/core/adapter'
import { isDoc } from '../bson/documents.ts'
import { isToken } from '../guard/stored-values.ts'
import { KEYS_PATH } from '../path-graph/stored-model.ts'
import { walkPath } from '../path-graph/walk-path.ts'
import { REDACTED } from '../redact/redact-filter.ts'
import type { CollectionState } from './collection-state.ts'

const DUPLICATE_KEY = 11000

/**
 * The error that a caller sees: one of ours that the driver has wrapped is taken out again; a violated unique index is
 * told by the name of its path, without the token that the server echoes, nor those that the driver quotes.
 */
export function redactDriverError(error: unknown, state: CollectionState): unknown {
  const own = ownError(error)
  if (own !== undefined) return own
  if (typeof error === 'object' && error !== null) {
    redactDuplicate(error, state)
    const writeErrors: unknown = Reflect.get(error, 'writeErrors')
    for (const each of [writeErrors].flat()) {
      if (typeof each !== 'object' || each === null) continue
      redactDuplicate(each, state)
      const quoting: unknown = Reflect.get(each, 'err')
      if (isDoc(quoting) && 'op' in quoting) quoting['op'] = withoutTokens(quoting['op'])
    }
  }
  return error
}

/** Ours, however deep: it is thrown where the driver is about to write to its socket. */
function ownError(error: unknown, depth = 0): unknown {
  if (isFieldsealError(error)) return error
  if (typeof error !== 'object' || error === null || depth > 3 || tellsOperations(error)) return undefined
  for (const name of ['cause', 'err', 'error', 'errorResponse', 'originalError']) {
    const found = ownError(Reflect.get(error, name), depth + 1)
    if (found !== undefined) return found
  }
  return undefined
}

/** A bulk write that was carried out in part: it has to tell which operations failed. */
function tellsOperations(error: object): boolean {
  const writeErrors: unknown = Reflect.get(error, 'writeErrors')
  return Array.isArray(writeErrors) && writeErrors.length > 0
}

/** An operation as it was sent, which the driver quotes. */
function withoutTokens(value: unknown): unknown {
  if (isToken(value)) return REDACTED
  if (Array.isArray(value)) return value.map(withoutTokens)
  return isDoc(value)
    ? Object.fromEntries(Object.entries(value).map(([key, each]) => [key, withoutTokens(each)]))
    : value
}

function redactDuplicate(error: object, state: CollectionState): void {
  if (Reflect.get(error, 'code') !== DUPLICATE_KEY) return
  const { root } = state.model()
  for (const holder of [error, Reflect.get(error, 'errorResponse') as unknown, Reflect.get(error, 'err') as unknown]) {
    if (typeof holder !== 'object' || holder === null) continue
    for (const name of ['keyPattern', 'keyValue']) {
      const keys: unknown = Reflect.get(holder, name)
      if (!isDoc(keys)) continue
      const translated = Object.entries(keys).map(([path, value]): [string, unknown] => {
        const named = path.replace(/\.[bn]$/, '')
        const compound = named.startsWith(`${KEYS_PATH}.`) ? named.split('.').at(-1) : undefined
        if (compound !== undefined) return [compound, name === 'keyValue' ? REDACTED : value]
        if (walkPath(root, named).node?.reaches !== true) return [path, value]
        return [named, name === 'keyValue' ? REDACTED : value]
      })
      Reflect.set(holder, name, Object.fromEntries(translated))
    }
    for (const name of ['message', 'errmsg']) {
      const text: unknown = Reflect.get(holder, name)
      if (typeof text === 'string') Reflect.set(holder, name, text.replace(/dup key: .*$/s, `dup key: ${REDACTED}`))
    }
  }
}
