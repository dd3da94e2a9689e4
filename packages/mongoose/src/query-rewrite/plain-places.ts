import type { Doc } from '../bson/documents.ts'
import { isDoc } from '../bson/documents.ts'
import { markNode, type PathNode } from '../path-graph/path-node.ts'
import { besidePath, plainPathOf, walkPath } from '../path-graph/walk-path.ts'
import { copyOf, withPath } from '../read-path/shape.ts'

/** The path under which a query meets the values of a path: another one while they are stored unencrypted beside it. */
export function storedPath(root: PathNode, path: string): string {
  const walked = walkPath(root, path)
  const { state } = walked.inside?.node ?? walked.node ?? {}
  return (state === 'plaintext' ? plainPathOf(walked, path) : undefined) ?? path
}

/** An order over the paths where values are stored, in the form in which it was given. */
export function storedSort(sort: unknown, root: PathNode): unknown {
  const path = (name: unknown) => (typeof name === 'string' ? storedPath(root, name) : name)
  if (typeof sort === 'string') return sort.startsWith('-') ? `-${String(path(sort.slice(1)))}` : path(sort)
  if (sort instanceof Map) return new Map([...sort].map(([name, direction]) => [path(name), direction]))
  if (Array.isArray(sort))
    return sort.map((each: unknown) => (Array.isArray(each) ? [path(each[0]), ...each.slice(1)] : path(each)))
  return isDoc(sort) ? Object.fromEntries(Object.entries(sort).map(([name, each]) => [path(name), each])) : sort
}

/** Stages that meet the plaintext of documents, or none of it, without having it put at its path first. */
const SIMPLE: readonly string[] = ['$match', '$sort', '$limit', '$skip', '$sample', '$count', '$unset', '$facet']

/** Whether a stage computes with values of documents as they are stored. */
export function computes(operator: string, operand: unknown): boolean {
  if (operator === '$project' && isDoc(operand))
    return !Object.values(operand).every((value) => typeof value === 'number' || typeof value === 'boolean')
  return !SIMPLE.includes(operator) || (operator === '$match' && isDoc(operand) && '$expr' in operand)
}

/** Stages that put values at their paths which are stored unencrypted beside them, and what the documents look like then. */
export function broughtHome(root: PathNode): { readonly stages: readonly Doc[]; readonly shape: PathNode } {
  let shape = root
  const [added, removed]: [Doc, string[]] = [{}, []]
  for (const [path, node] of storedBeside(root, '')) {
    const old = besidePath(path, node.plainName as string) // all of these have one
    added[path] = { $ifNull: [`$${old}`, { $ifNull: [`$${path}`, `$${old}`] }] }
    removed.push(old)
    const home = copyOf(node)
    home.plainName = undefined
    markNode(home)
    shape = withPath(withPath(shape, old, undefined), path, home)
  }
  return removed.length === 0 ? { stages: [], shape } : { stages: [{ $addFields: added }, { $unset: removed }], shape }
}

/** Those outside of arrays and Maps, where one stage reaches each of them. */
function* storedBeside(node: PathNode, prefix: string): Generator<[string, PathNode]> {
  for (const [name, child] of node.names) {
    const path = prefix === '' ? name : `${prefix}.${name}`
    if (child.plainName !== undefined && child.state === 'plaintext') yield [path, child]
    else if (child.element === undefined && child.values === undefined) yield* storedBeside(child, path)
  }
}
