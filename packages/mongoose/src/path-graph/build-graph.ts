import type { Schema, SchemaType } from 'mongoose'
import { annotationOf } from '../encrypted-path/annotation.ts'
import { configError } from '../encrypted-path/config-error.ts'
import { escapedName } from './escaped-name.ts'
import { markReaches, PathNode, type Annotation } from './path-node.ts'

/** What the typings of Mongoose leave out of schemas and schema types. */
interface SchemaTypeParts {
  readonly schema?: Schema
  readonly schemaTypes?: readonly SchemaType[]
  readonly $isMongooseArray?: boolean
  readonly $isMongooseDocumentArray?: boolean
  readonly $isSingleNested?: boolean
  readonly $isSchemaMap?: boolean
  getEmbeddedSchemaType?(): SchemaType | undefined
  /** Mongoose 8. */
  readonly caster?: SchemaType
  readonly $__schemaType?: SchemaType
}
interface SchemaIdentity {
  readonly $id?: number
  readonly $originalSchemaId?: number
}

/** A schema that contains itself. */
interface Loop {
  readonly node: PathNode
  readonly path: string
}

/**
 * The encrypted paths of schemas that share a collection, their discriminators included.
 *
 * @throws FieldsealError ERR_CONFIG_INVALID for a path that is encrypted in one schema and not, or otherwise, in another,
 * and for encrypted paths of a schema that contains itself: they would need ids without end
 */
export function buildGraph(schemas: Iterable<Schema>, discriminators: 'with' | 'without' = 'with'): PathNode {
  const root = new PathNode()
  const loops: Loop[] = []
  for (const schema of schemas)
    if (discriminators === 'with') addSchema(root, schema, [], '', loops)
    else addPaths(root, schema, [{ schema, node: root }], '', loops)
  markReaches(root)
  const loop = loops.find(({ node }) => node.reaches)
  if (loop !== undefined)
    throw configError(loop.path, 'encrypted', 'its schema contains itself', 'encrypt the whole container instead')
  return root
}

interface Ancestor {
  readonly schema: Schema
  readonly node: PathNode
}

function addSchema(node: PathNode, schema: Schema, above: readonly Ancestor[], prefix: string, loops: Loop[]): void {
  const loop = above.find((ancestor) => isSame(ancestor.schema, schema))
  if (loop !== undefined) {
    loops.push({ node: loop.node, path: prefix })
    return
  }
  const within = [...above, { schema, node }]
  for (const variant of [schema, ...Object.values(schema.discriminators ?? {})] as Schema[])
    addPaths(node, variant, within, prefix, loops)
}

function addPaths(node: PathNode, schema: Schema, within: readonly Ancestor[], prefix: string, loops: Loop[]): void {
  for (const [name, schemaType] of Object.entries(schema.paths)) {
    const parts = name.split('.')
    if (parts.some((part) => part === '$*' || part === '$')) continue // listed again with their container
    const parent = parts.slice(0, -1).reduce((above, part) => above.grow(part), node)
    const at = parent.grow(parts.at(-1) as string) // a path has a name
    fill(at, schemaType, within, [prefix, ...parts.map(escapedName)].filter((part) => part !== '').join('.'), loops)
    const plainName = at.annotation?.plainName
    if (plainName === undefined) continue
    at.plainName = plainName
    parent.grow(plainName).plainOf = at
  }
}

function fill(node: PathNode, schemaType: SchemaType, above: readonly Ancestor[], path: string, loops: Loop[]): void {
  const annotation = annotationOf(schemaType, path)
  if (node.declared && !isAlike(node.annotation, annotation))
    throw configError(path, 'encrypted', 'declared differently in another schema or discriminator of its collection')
  node.declared = true
  if (annotation === undefined) return fillContainer(node, schemaType, above, path, loops)
  node.annotation = annotation
  const inner = new PathNode()
  fillContainer(inner, schemaType, above, path, [])
  markReaches(inner)
  if (inner.reaches)
    throw configError(path, 'encrypted', 'paths inside are annotated too', 'encrypt the container, or paths of it')
}

function fillContainer(
  node: PathNode,
  schemaType: SchemaType,
  above: readonly Ancestor[],
  path: string,
  loops: Loop[],
): void {
  const parts = schemaType as unknown as SchemaTypeParts
  const embedded = parts.getEmbeddedSchemaType?.() ?? parts.$__schemaType ?? parts.caster
  if (parts.$isMongooseDocumentArray === true && parts.schema !== undefined) {
    addSchema((node.element ??= new PathNode()), parts.schema, above, `${path}.$`, loops)
  } else if (parts.$isMongooseArray === true && embedded !== undefined) {
    fill((node.element ??= new PathNode()), embedded, above, `${path}.$`, loops)
  } else if (parts.$isSingleNested === true && parts.schema !== undefined) {
    addSchema(node, parts.schema, above, path, loops)
  } else if (parts.$isSchemaMap === true && embedded !== undefined) {
    fill((node.values ??= new PathNode()), embedded, above, `${path}.$*`, loops)
  } else {
    for (const member of parts.schemaTypes ?? []) assertPlain(member, path)
  }
}

/** A union stores one of several types at one path, and only the path as a whole can be encrypted. */
function assertPlain(member: SchemaType, path: string): void {
  const probe = new PathNode()
  fill(probe, member, [], path, [])
  markReaches(probe)
  if (probe.reaches) throw configError(path, 'encrypted', 'inside a union', 'encrypt the whole path')
}

function isAlike(one: Annotation | undefined, other: Annotation | undefined): boolean {
  return JSON.stringify(one) === JSON.stringify(other)
}

/** A model is compiled from a copy of its schema, which may still hold the original. */
function isSame(one: Schema, other: Schema): boolean {
  const ids = (schema: SchemaIdentity) => [schema.$id, schema.$originalSchemaId].filter((id) => id !== undefined)
  return one === other || ids(one as SchemaIdentity).some((id) => ids(other as SchemaIdentity).includes(id))
}
