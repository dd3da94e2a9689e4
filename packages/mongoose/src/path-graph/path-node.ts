import type { BlindIndex, Field, FieldOptions, FieldState } from '@fieldseal/core/adapter'
import type { StoredModel } from './stored-model.ts'

/** An encrypted path as its schema declares it. */
export interface Annotation {
  /** Normalised path, which is the field's id: `history.$.note`, `phones.$*`. */
  readonly path: string
  /** Name of the value codec. */
  readonly type: string
  /** `plaintextIn` is a normalised path here. */
  readonly options: FieldOptions
  /** The name beside it under which its old plaintext stands. */
  readonly plainName?: string
}

/** One level of what documents of a collection may hold. */
export class PathNode {
  /** A schema type stands here, not only names on the way to one. */
  declared = false
  /** Encrypted here, as one value; nothing below is seen by the database. */
  annotation: Annotation | undefined
  /** Set once core has checked the model. */
  field: Field | undefined
  readonly names = new Map<string, PathNode>()
  /** What each element of an array is. */
  element: PathNode | undefined
  /** What each value of a Map is. */
  values: PathNode | undefined
  /** Where the old plaintext of this path stands: a name beside it. */
  plainName: string | undefined
  /** The old plaintext of this path stands here. */
  plainOf: PathNode | undefined
  /** The index whose tokens stand here, without a value. */
  tokensOf: BlindIndex | undefined
  /** An encrypted path is here or below. */
  reaches = false
  /** The same without values that stand unencrypted at their own path: what queries and writes may not take as it is. */
  conceals = false
  /** A stored document begins here: the root, or what a `$lookup` brings. */
  model: StoredModel | undefined

  /** How far the values here are on their way from plaintext. */
  get state(): FieldState {
    return this.annotation?.options.state ?? 'encrypted'
  }

  /** One stored value, into which no path leads. */
  get isWhole(): boolean {
    const isSealed = this.annotation !== undefined && this.conceals
    return isSealed || this.plainOf !== undefined || this.tokensOf !== undefined
  }

  child(name: string): PathNode | undefined {
    return this.values ?? this.names.get(name)
  }

  /** The node of a name, made when it is missing. */
  grow(name: string): PathNode {
    const known = this.names.get(name) ?? new PathNode()
    this.names.set(name, known)
    return known
  }

  *children(): Generator<PathNode> {
    yield* this.names.values()
    if (this.element !== undefined) yield this.element
    if (this.values !== undefined) yield this.values
  }
}

/** All nodes of a graph, parents first. */
export function nodesOf(root: PathNode): PathNode[] {
  return [root, ...[...root.children()].flatMap(nodesOf)]
}

/** Marks every node from which an encrypted path can be reached. */
export function markReaches(root: PathNode): void {
  for (const child of root.children()) markReaches(child)
  markNode(root)
}

/** The same for one node, whose children are marked. */
export function markNode(node: PathNode): void {
  const { annotation, plainName, plainOf, state, tokensOf } = node
  const children = [...node.children()]
  const isPlain = state === 'plaintext' && plainName === undefined
  node.reaches = annotation !== undefined || plainOf !== undefined || children.some(({ reaches }) => reaches)
  const isOwn = (annotation !== undefined && !isPlain) || plainOf !== undefined || tokensOf !== undefined
  node.conceals = isOwn || children.some(({ conceals }) => conceals)
}
