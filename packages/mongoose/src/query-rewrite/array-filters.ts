import { isDoc, type Doc } from '../bson/documents.ts'
import { PathNode } from '../path-graph/path-node.ts'
import { walkPath } from '../path-graph/walk-path.ts'
import { rewriteFilter, rewriteParent, type FilterScope } from './rewrite-filter.ts'

/** `arrayFilters` with conditions on encrypted paths of elements replaced by those on tokens. */
export function rewriteArrayFilters(
  filters: readonly unknown[],
  update: unknown,
  root: PathNode,
  scope: FilterScope,
): readonly unknown[] {
  const elements = elementsOf(update, root)
  return filters.map((filter) => (isDoc(filter) ? rewriteOne(filter, elements, scope) : filter))
}

function rewriteOne(filter: Doc, elements: ReadonlyMap<string, PathNode>, scope: FilterScope): Doc {
  const out: Doc = {}
  for (const [key, value] of Object.entries(filter)) {
    if (['$and', '$or', '$nor'].includes(key) && Array.isArray(value)) {
      out[key] = value.map((each: unknown) => (isDoc(each) ? rewriteOne(each, elements, scope) : each))
      continue
    }
    const [name = '', ...rest] = key.split('.')
    const element = elements.get(name)
    if (element === undefined || !element.reaches) out[key] = value
    else if (rest.length > 0) {
      Object.assign(out, below(name, rewriteFilter({ [rest.join('.')]: value }, element, scope, true)))
    } else if (element.field !== undefined) {
      // The element itself: asked through a document that holds it, so that one rule serves both.
      Object.assign(out, rewriteFilter({ [name]: value }, holderOf(name, element), scope, true))
    } else out[key] = rewriteParent(name, value, element, scope, true)
  }
  return out
}

/** A filter with its paths below a name. */
function below(name: string, filter: Doc): Doc {
  return Object.fromEntries(
    Object.entries(filter).map(([path, condition]): [string, unknown] =>
      Array.isArray(condition) && path.startsWith('$')
        ? [path, condition.filter(isDoc).map((each) => below(name, each))]
        : [`${name}.${path}`, condition],
    ),
  )
}

/** What the identifier of each `$[identifier]` in an update stands for. */
function elementsOf(update: unknown, root: PathNode): Map<string, PathNode> {
  const elements = new Map<string, PathNode>()
  for (const operands of Object.values(isDoc(update) ? update : {})) {
    for (const path of Object.keys(isDoc(operands) ? operands : {})) {
      const names = path.split('.')
      names.forEach((name, at) => {
        const [, identifier] = /^\$\[(\w+)\]$/.exec(name) ?? []
        const element = identifier && walkPath(root, names.slice(0, at + 1).join('.')).node
        if (identifier && element) elements.set(identifier, element)
      })
    }
  }
  return elements
}

function holderOf(name: string, element: PathNode): PathNode {
  const holder = new PathNode()
  holder.names.set(name, element)
  holder.reaches = element.reaches
  return holder
}
