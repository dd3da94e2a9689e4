import { markNode, markReaches, PathNode } from '../path-graph/path-node.ts'

/** A graph to change: the path lists are copied, what lies below is shared until it changes. */
export function copyOf(node: PathNode): PathNode {
  const copy = new PathNode()
  copy.annotation = node.annotation
  copy.field = node.field
  copy.element = node.element
  copy.values = node.values
  copy.model = node.model
  copy.plainName = node.plainName
  copy.plainOf = node.plainOf
  copy.tokensOf = node.tokensOf
  copy.reaches = node.reaches
  copy.conceals = node.conceals
  for (const [name, child] of node.names) copy.names.set(name, child)
  return copy
}

/** The shape with a path replaced by what a stage puts there; undefined for something plain. */
export function withPath(root: PathNode, path: string, put: PathNode | undefined): PathNode {
  const copy = copyOf(root)
  const [name = '', ...rest] = path.split('.')
  if (rest.length > 0) copy.names.set(name, withPath(copy.names.get(name) ?? new PathNode(), rest.join('.'), put))
  else if (put === undefined) copy.names.delete(name)
  else copy.names.set(name, put)
  markNode(copy)
  return copy
}

/** An array of documents of a shape. */
export function arrayOf(element: PathNode): PathNode {
  const array = new PathNode()
  array.element = element
  markNode(array)
  return array
}

/** A document that holds shapes under names. */
export function documentOf(shapes: ReadonlyMap<string, PathNode>): PathNode {
  const node = new PathNode()
  for (const [name, shape] of shapes) node.names.set(name, shape)
  markNode(node)
  return node
}

/** Documents without encrypted paths. */
export const PLAIN = new PathNode()
markReaches(PLAIN)
