import { isDoc } from '../bson/documents.ts'
import { PathNode } from '../path-graph/path-node.ts'
import { walkPath } from '../path-graph/walk-path.ts'
import { refuseQuery } from './refuse.ts'
import { rewriteFilter, type FilterScope } from './rewrite-filter.ts'

/**
 * `arrayFilters` with conditions on encrypted paths of elements replaced by those on tokens.
 *
 * @throws FieldsealError ERR_QUERY_UNSUPPORTED, also for a filter of which the update does not tell what it is about
 */
export function rewriteArrayFilters(
  filters: readonly unknown[],
  update: unknown,
  root: PathNode,
  scope: FilterScope,
): readonly unknown[] {
  const elements = elementsOf(update, root, scope)
  for (const filter of filters) assertNamed(filter, elements, scope)
  return filters.map((filter) => rewriteFilter(filter, elements, scope, true))
}

/** A document that holds under each identifier what `$[identifier]` in the update stands for. */
function elementsOf(update: unknown, root: PathNode, scope: FilterScope): PathNode {
  const elements = new PathNode()
  elements.reaches = true
  elements.conceals = true
  for (const operands of Object.values(isDoc(update) ? update : {})) {
    for (const path of Object.keys(isDoc(operands) ? operands : {})) {
      const names = path.split('.')
      names.forEach((name, at) => {
        const [, identifier] = /^\$\[(\w+)\]$/.exec(name) ?? []
        if (identifier === undefined) return
        const element = walkPath(root, names.slice(0, at + 1).join('.')).node
        const known = elements.names.get(identifier)
        if (known !== undefined && known !== element && (known.conceals || element?.conceals === true))
          refuse(identifier, scope, 'it stands for elements of two arrays: use two identifiers')
        elements.names.set(identifier, element ?? known ?? new PathNode())
      })
    }
  }
  return elements
}

function assertNamed(filter: unknown, elements: PathNode, scope: FilterScope): void {
  for (const [key, value] of Object.entries(isDoc(filter) ? filter : {})) {
    if (Array.isArray(value) && key.startsWith('$')) for (const each of value) assertNamed(each, elements, scope)
    const [name = ''] = key.split('.')
    if (!key.startsWith('$') && !elements.names.has(name))
      refuse(name, scope, 'an identifier that no path of the update has')
  }
}

function refuse(identifier: string, { model }: FilterScope, hint: string): never {
  return refuseQuery(model, `$[${identifier}]`, 'unsupported-filter', hint)
}
