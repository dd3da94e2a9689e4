import type { AdapterHost, ModelOptions, RowKeyKind } from '@fieldseal/core/adapter'
import type { Schema } from 'mongoose'
import { modelOptionsOf } from '../encrypted-path/annotation.ts'
import { configError } from '../encrypted-path/config-error.ts'
import { assertCompounds, growCompounds } from './compound-paths.ts'
import { buildGraph } from './build-graph.ts'
import { nodesOf } from './path-node.ts'
import { assertRegistrable } from './schema-rules.ts'
import type { FactPath, StoredModel } from './stored-model.ts'
import { assertUniqueWhere } from './unique-where.ts'

const KINDS: Readonly<Record<string, RowKeyKind>> = {
  ObjectId: 'objectid',
  ObjectID: 'objectid',
  String: 'string',
  Number: 'integer',
  BigInt: 'integer',
  Int32: 'integer',
  UUID: 'uuid',
}

/**
 * The encrypted documents of a collection, as its schemas declare them; undefined when they declare none.
 *
 * @param collection name of the collection without database; it names the model unless the schema says `id`
 * @throws FieldsealError ERR_CONFIG_INVALID for what cannot be protected, naming the path
 */
export function defineStoredModel(
  collection: string,
  schemas: readonly Schema[],
  host: AdapterHost,
  tenantBy: string | undefined,
): StoredModel | undefined {
  const root = buildGraph(schemas)
  const [schema] = schemas
  if (!root.reaches || schema === undefined) return undefined
  for (const each of schemas) assertRegistrable(each, root)
  const options = optionsOf(schemas, tenantBy)
  const tenant = factOf(schemas, options.tenantBy === 'none' ? undefined : options.tenantBy, 'tenantBy')
  const per = typeof options.keyspace === 'object' ? options.keyspace.per : undefined
  const keyspace = factOf(schemas, per, 'keyspace')
  const id: FactPath = { path: '_id', kind: hasCollation(schemas) ? notText(idKind(schema)) : idKind(schema) }
  const annotated = nodesOf(root).flatMap((node) => (node.annotation === undefined ? [] : [node.annotation]))
  const map = host.defineModel({
    id: collection,
    options,
    fields: annotated,
    rowKey: [id],
    grows: true,
    factKinds: {
      ...(tenant === undefined ? {} : { tenant: tenant.kind }),
      ...(keyspace === undefined ? {} : { keyspace: keyspace.kind }),
    },
  })
  const fields = new Map(map.fields.map((field) => [field.path, field]))
  for (const node of nodesOf(root)) node.field = node.annotation && fields.get(node.annotation.path)
  const facts = [id, tenant, keyspace].filter((fact) => fact !== undefined)
  const model: StoredModel = { map, root, facts, tenant, keyspace, id, indexNames: new Map() }
  assertUniqueWhere(schemas, model)
  assertCompounds(model)
  growCompounds(model)
  root.model = model
  return model
}

/** The options stand on the base schema. Models that share a collection agree, or all but one say nothing. */
function optionsOf(schemas: readonly Schema[], tenantBy: string | undefined): ModelOptions {
  const said = schemas.map(modelOptionsOf).filter((options) => Object.keys(options).length > 0)
  const [first = {}] = said
  if (said.some((options) => JSON.stringify(options) !== JSON.stringify(first)))
    throw configError('', 'encrypted', 'two schemas of one collection have different model options')
  return { ...(tenantBy === undefined ? {} : { tenantBy }), ...first }
}

function idKind(schema: Schema): RowKeyKind {
  const type = schema.path('_id') as { readonly instance?: string } | undefined
  return KINDS[type?.instance ?? ''] ?? 'other'
}

/** Under a collation, equality of text is not byte equality. */
function hasCollation(schemas: readonly Schema[]): boolean {
  return schemas.some((schema) => schema.get('collation') !== undefined)
}

function notText(kind: RowKeyKind): RowKeyKind {
  return kind === 'string' ? 'other' : kind
}

function factOf(schemas: readonly Schema[], path: string | undefined, option: string): FactPath | undefined {
  if (path === undefined) return undefined
  const types = schemas.map((schema) => schema.path(path) as { readonly instance?: string } | undefined)
  const instance = types.find((type) => type !== undefined)?.instance
  const kind = KINDS[instance ?? '']
  if (kind === undefined)
    throw configError(
      path,
      option,
      'a path of type String, ObjectId, UUID, Number or BigInt outside of arrays and Maps',
    )
  if (kind === 'string' && hasCollation(schemas))
    throw configError(
      path,
      option,
      'under a collation two spellings of a text are equal',
      'drop the collation of the schema',
    )
  return { path, kind }
}
