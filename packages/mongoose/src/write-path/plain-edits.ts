import type { Doc } from '../bson/documents.ts'
import { besidePath } from '../path-graph/walk-path.ts'
import type { Edit } from './plan-update.ts'

/** Whether all of them compute with values that are stored unencrypted, so that the server can. */
export function arePlain(edits: readonly Edit[]): boolean {
  return edits.every(({ node }) => node.state === 'plaintext')
}

/**
 * The operators where the values stand. Tokens of a value that the server computes are unknown here: they go, and
 * `backfill` makes them anew.
 */
export function plainOperators(edits: readonly Edit[]): Doc {
  const out: Record<string, Doc> = {}
  const put = (operator: string, path: string, operand: unknown) => ((out[operator] ??= {})[path] = operand)
  for (const { node, root, rest, operator, operand } of edits) {
    const { plainName } = node
    const place = plainName === undefined ? root : besidePath(root, plainName)
    put(operator, [place, ...rest].join('.'), operand)
    if (plainName !== undefined) put('$unset', root, 1)
  }
  return out
}

/** What a document meets in which one of the values is an envelope, with which the server cannot compute. */
export function holdsEnvelope(edits: readonly Edit[]): Doc {
  return {
    $or: edits.map(({ node, root }) =>
      node.field?.blindIndex === undefined ? { [root]: { $type: 'binData' } } : { [`${root}.c`]: { $exists: true } },
    ),
  }
}
