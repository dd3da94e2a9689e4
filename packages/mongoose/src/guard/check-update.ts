import type { PathNode } from '../path-graph/path-node.ts'
import { touchesEncrypted, walkPath } from '../path-graph/walk-path.ts'
import { plaintextInCondition, plaintextInFilter } from './check-filter.ts'
import { asSent, entriesOf, firstOf, isSealed, isToken, plaintextIn } from './stored-values.ts'

const TAKING_AWAY: readonly string[] = ['$unset', '$pop']

/** The first encrypted path that an update, a pipeline or a replacement would write anything but ciphertext to. */
export function plaintextInUpdate(given: unknown, root: PathNode): string | undefined {
  const value = asSent(given)
  if (Array.isArray(value)) return firstOf(value, (stage) => writtenByStage(stage, root))
  const entries = entriesOf(value)
  if (!entries.some(([key]) => key.startsWith('$'))) return plaintextIn(value, root)
  return firstOf(entries, ([operator, operands]) =>
    TAKING_AWAY.includes(operator)
      ? undefined
      : firstOf(entriesOf(operands), ([path, operand]) => writtenByOperator(operator, path, operand, root)),
  )
}

function writtenByOperator(operator: string, path: string, operand: unknown, root: PathNode): string | undefined {
  if (operator === '$rename' && typeof operand === 'string' && touchesEncrypted(root, operand)) return operand
  const { node, inside } = walkPath(root, path)
  const whole = inside?.node ?? node
  if (whole?.plainOf?.state === 'plaintext') return undefined
  if (inside !== undefined) return operator === '$set' && isPart(inside.rest.join('.'), operand) ? undefined : path
  if (node === undefined || !node.conceals) return undefined
  switch (operator) {
    case '$set':
    case '$setOnInsert':
      return plaintextIn(operand, node, path)
    case '$push':
    case '$addToSet': {
      const each = entriesOf(operand).find(([key]) => key === '$each')?.[1]
      return firstOf(Array.isArray(each) ? each : [operand], (item) => plaintextIn(item, node.element ?? node, path))
    }
    case '$pull': {
      const element = node.element ?? node
      if (element.isWhole) return plaintextInCondition(operand, element, path)
      return plaintextInFilter(operand, element)
    }
    default:
      return path
  }
}

/** A rewrap replaces the ciphertext of a searchable leaf alone, a new index its token. */
function isPart(name: string, operand: unknown): boolean {
  if (name === 'c') return isSealed(operand)
  return (name === 'b' || name === 'n') && isToken(operand)
}

/** A pipeline computes, so it can write no ciphertext. */
function writtenByStage(stage: unknown, root: PathNode): string | undefined {
  return firstOf(entriesOf(stage), ([operator, operand]) =>
    operator === '$unset' ? undefined : namedIn(operand, root),
  )
}

/** The first key of an expression that is an encrypted path. */
function namedIn(given: unknown, node: PathNode): string | undefined {
  const expression = asSent(given)
  if (Array.isArray(expression)) return firstOf(expression, (each) => namedIn(each, node))
  return firstOf(entriesOf(expression), ([key, value]) => {
    if (value === 0 || value === false) return undefined // an exclusion
    return !key.startsWith('$') && touchesEncrypted(node, key) ? key : namedIn(value, node)
  })
}

/** The same for `arrayFilters`, whose conditions are about the elements that `$[name]` means in the update. */
export function plaintextInArrayFilters(filters: unknown, update: unknown, root: PathNode): string | undefined {
  if (!Array.isArray(filters)) return undefined
  const elements = new Map<string, PathNode>()
  for (const [, operands] of entriesOf(update))
    for (const [path] of entriesOf(operands))
      path.split('.').forEach((part, at, parts) => {
        const name = /^\$\[(\w+)\]$/.exec(part)?.[1]
        const { node } = walkPath(root, parts.slice(0, at + 1).join('.'))
        if (name !== undefined && node !== undefined) elements.set(name, node)
      })
  return firstOf(filters, (filter) => plaintextInElements(filter, elements))
}

function plaintextInElements(filter: unknown, elements: ReadonlyMap<string, PathNode>): string | undefined {
  return firstOf(entriesOf(filter), ([key, condition]) => {
    if (key.startsWith('$'))
      return firstOf(Array.isArray(condition) ? condition : [], (each) => plaintextInElements(each, elements))
    const [name = '', ...rest] = key.split('.')
    const element = elements.get(name)
    if (element === undefined) return undefined
    return rest.length === 0
      ? plaintextInCondition(condition, element, key)
      : plaintextInFilter({ [rest.join('.')]: condition }, element)
  })
}
