import type { PathNode } from './path-node.ts'

/** Where a dotted path of a query or update leads. */
export interface Walked {
  /** The node there; undefined when the schema knows no such path, or when it lies inside an encrypted value. */
  readonly node: PathNode | undefined
  /** Keys of the Maps that the path crosses. */
  readonly mapKeys: readonly string[]
  /** Set when the path lies inside an encrypted value. */
  readonly inside?: Inside
  /** True when a positional operator or an array index stands in the path. */
  readonly positional: boolean
  /** True when it crosses an array without naming an element. */
  readonly spread: boolean
}
export interface Inside {
  readonly node: PathNode
  /** Path of the encrypted value. */
  readonly path: string
  /** The names below it. */
  readonly rest: readonly string[]
  readonly mapKeys: readonly string[]
}

/** `0`, `$`, `$[]`, `$[name]`: what names an element of an array. */
export function isPosition(name: string): boolean {
  return /^\d+$/.test(name) || name === '$' || /^\$\[.*\]$/.test(name)
}

/** Follows a dotted path as MongoDB does: through arrays with or without a position. */
export function walkPath(root: PathNode, path: string): Walked {
  const names = path.split('.')
  const mapKeys: string[] = []
  let node: PathNode | undefined = root
  let [positional, spread] = [false, false]
  for (let at = 0; at < names.length; ) {
    const name = names[at] as string // at < length
    if (node === undefined) return { node, mapKeys, positional, spread }
    if (node.isWhole) {
      const inside = { node, path: names.slice(0, at).join('.'), rest: names.slice(at), mapKeys }
      return { node: undefined, mapKeys, inside, positional, spread }
    }
    if (node.element !== undefined) {
      node = node.element
      if (isPosition(name)) {
        positional = true
        at++
      } else spread = true
      continue
    }
    if (node.values !== undefined) mapKeys.push(name)
    node = node.child(name)
    at++
  }
  return { node, mapKeys, positional, spread }
}

/** True when a path is encrypted, lies inside an encrypted value, or has one below it. */
export function touchesEncrypted(root: PathNode, path: string): boolean {
  const { node, inside } = walkPath(root, path)
  return inside !== undefined || node?.conceals === true
}

/** The path of another name beside the last one. */
export function besidePath(path: string, name: string): string {
  return [...path.split('.').slice(0, -1), name].join('.')
}

/** Where the other place of an encrypted value is: that of its old plaintext. Undefined for values with one place. */
export function plainPathOf(
  { node, inside }: { readonly node: PathNode | undefined; readonly inside?: Inside | undefined },
  path: string,
): string | undefined {
  const name = (inside?.node ?? node)?.plainName
  return name === undefined ? undefined : [besidePath(inside?.path ?? path, name), ...(inside?.rest ?? [])].join('.')
}
