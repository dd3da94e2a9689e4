import { isDoc } from '../bson/documents.ts'
import type { PathNode } from '../path-graph/path-node.ts'
import { KEYS_PATH } from '../path-graph/stored-model.ts'
import { touchesEncrypted } from '../path-graph/walk-path.ts'
import { refuseQuery } from './refuse.ts'

/** Operators that reach a document, or a name in it, without a path that could be read off. */
export const OPAQUE: readonly string[] = [
  '$function',
  '$accumulator',
  '$where',
  '$getField',
  '$setField',
  '$unsetField',
]
const WHOLE: readonly string[] = ['$$ROOT', '$$CURRENT']

/**
 * Refuses an aggregation expression that reads an encrypted path: it would see ciphertext.
 *
 * @throws FieldsealError ERR_QUERY_UNSUPPORTED
 */
export function assertPlainExpression(expression: unknown, root: PathNode, model: string, where: string): void {
  if (!root.conceals) return
  if (typeof expression === 'string') {
    const path = pathOf(expression)
    if (path !== undefined && (path === '' || path === KEYS_PATH || touchesEncrypted(root, path)))
      refuseQuery(model, path, 'expr-on-encrypted', `${where} would compute with ciphertext`)
  } else if (Array.isArray(expression)) {
    for (const each of expression) assertPlainExpression(each, root, model, where)
  } else if (isDoc(expression)) {
    for (const [key, value] of Object.entries(expression)) {
      if (key === '$literal') continue
      if (OPAQUE.includes(key))
        refuseQuery(model, '', 'expr-on-encrypted', `${key} may read encrypted paths: name the paths in another way`)
      assertPlainExpression(value, root, model, where)
    }
  }
}

/** The path that `'$a.b'` or `'$$ROOT.a'` reads, `''` for the whole document; undefined for text and other variables. */
export function pathOf(text: string): string | undefined {
  for (const whole of WHOLE) {
    if (text === whole) return ''
    if (text.startsWith(`${whole}.`)) return text.slice(whole.length + 1)
  }
  if (text.startsWith('$$')) return undefined
  return text.startsWith('$') ? text.slice(1) : undefined
}
