import { FieldsealError, type ErrorCode } from '@fieldseal/core/adapter'
import type { EntityModel } from '../entity-map/entity-model.ts'
import { namesOf, tokenNamesOf, type ModelRegistry } from '../entity-map/model-registry.ts'
import type { OwnBuilder } from '../install/typeorm-internals.ts'
import { withoutMarked, withoutMarks } from './marks.ts'
import { identifiersIn, type SqlIdentifier } from './sql-identifiers.ts'

/** Where in a statement the application wrote SQL of its own. */
export type Clause =
  | 'where'
  | 'join'
  | 'select'
  | 'having'
  | 'order-by'
  | 'group-by'
  | 'distinct'
  | 'set'
  | 'cte'
  | 'derived-table'
  | 'on-conflict'

const MAX_REMEMBERED = 2_000
const MAX_REMEMBERED_LENGTH = 1_000

interface Scope {
  /** Tells scopes apart. */
  readonly name: string
  readonly registry: ModelRegistry
  /** Encrypted models in the statement, by lower-case alias. */
  readonly models: ReadonlyMap<string, EntityModel>
  readonly aliases: ReadonlySet<string>
  /** A sub-query brings tables of its own. */
  readonly hasSubQuery: boolean
}

/**
 * Refuses SQL written by the application that may touch an encrypted column: it would compare, sort or group ciphertext
 * without a word. False refusals are fine; only `IS [NOT] NULL` passes.
 *
 * @throws FieldsealError ERR_QUERY_UNSUPPORTED or ERR_WRITE_UNSUPPORTED naming table and column
 */
export function assertFragment(builder: OwnBuilder, fragment: string, clause: Clause): void {
  const registry = builder.state.installation.models()
  // A table made by a query hands its columns on under other names: then nothing of it may be encrypted.
  const everything = clause === 'cte' || clause === 'derived-table'
  const sql = everything ? withoutMarks(fragment) : withoutMarked(fragment)
  if (registry.models.length === 0 || sql === '') return
  const scope = scopeOf(builder, registry, sql)
  if (scope.models.size === 0 && !scope.hasSubQuery && !everything) return
  // An application sends the same text again and again: what has passed once under these aliases passes again.
  const name = `${clause} ${scope.name} ${sql}`
  if (registry.passedFragments.has(name)) return
  const { parameters } = builder.expressionMap
  for (const identifier of identifiersIn(sql, (name) => Object.hasOwn(parameters, name))) {
    if (everything && registry.tableNames.has(lastOf(identifier))) throw refusal(builder, identifier, clause)
    if (touches(identifier, scope)) throw refusal(builder, identifier, clause)
  }
  if (name.length <= MAX_REMEMBERED_LENGTH && registry.passedFragments.size < MAX_REMEMBERED)
    registry.passedFragments.add(name)
}

/** Refuses tables with encrypted columns that are addressed by a name without metadata: nothing would be encrypted there. */
export function assertTables(builder: OwnBuilder): void {
  const registry = builder.state.installation.models()
  if (registry.models.length === 0) return
  for (const alias of builder.expressionMap.aliases) {
    if (alias.subQuery !== undefined) assertFragment(builder, alias.subQuery, 'derived-table')
    if (alias.hasMetadata || alias.tablePath === undefined) continue
    const table = alias.tablePath.split('.').at(-1)?.replaceAll('"', '') ?? ''
    if (!registry.tableNames.has(table.toLowerCase())) continue
    throw new FieldsealError(codeOf(builder), {
      model: table,
      reason: 'table-without-entity',
      hint: 'the table has encrypted columns: address it through its entity',
    })
  }
}

function touches(identifier: SqlIdentifier, { registry, models, aliases, hasSubQuery }: Scope): boolean {
  if (identifier.called) return false
  const [first = '', ...rest] = identifier.names.map((name) => name.toLowerCase())
  if (first === 'u&') return true
  const candidates = [...models.values()]
  const whole = [first, ...rest].join('.')
  if (rest.length === 0) {
    if (models.has(first)) return true // the row as a whole
    if (hasSubQuery && registry.columnNames.has(first)) return true
    return refersTo(candidates, whole, identifier)
  }
  const model = models.get(first)
  if (model !== undefined) return rest[0] === '*' || refersTo([model], rest.join('.'), identifier)
  if (refersTo(candidates, whole, identifier)) return true // a property path without alias
  return !aliases.has(first) && registry.columnNames.has(rest.at(-1) ?? '')
}

function refersTo(models: readonly EntityModel[], name: string, { testedForNull }: SqlIdentifier): boolean {
  const [columns, compounds] = [models.flatMap((model) => model.columns), models.flatMap((model) => model.compounds)]
  if (compounds.some((compound) => tokenNamesOf(compound).includes(name))) return true
  return columns.some((sealed) => {
    if (!namesOf(sealed).includes(name)) return false
    const { databaseName, propertyPath } = sealed.column
    const isValue = name === databaseName.toLowerCase() || name === propertyPath.toLowerCase()
    // Without a value in one place, it may stand in the other.
    return !(testedForNull && isValue && !sealed.field.encryptNull && sealed.twin === undefined)
  })
}

function scopeOf(builder: OwnBuilder, registry: ModelRegistry, sql: string): Scope {
  const models = new Map<string, EntityModel>()
  const aliases = new Set<string>()
  let scope = ''
  for (const alias of builder.expressionMap.aliases) {
    if (!alias.hasMetadata) continue
    const name = alias.name.toLowerCase()
    aliases.add(name)
    scope += `${name}:${alias.metadata.tablePath},`
    const model = registry.of(alias.metadata)
    if (model !== undefined) models.set(name, model)
  }
  return { name: scope, registry, models, aliases, hasSubQuery: /\bselect\b/i.test(sql) }
}

function refusal(builder: OwnBuilder, identifier: SqlIdentifier, clause: Clause): FieldsealError {
  return new FieldsealError(codeOf(builder), {
    field: identifier.names.join('.'),
    operation: builder.expressionMap.queryType,
    reason: clause,
    hint: 'the database sees ciphertext there: use object conditions on a blindIndex, or work on the entities',
  })
}

function codeOf(builder: OwnBuilder): ErrorCode {
  return builder.expressionMap.queryType === 'select' ? 'ERR_QUERY_UNSUPPORTED' : 'ERR_WRITE_UNSUPPORTED'
}

function lastOf({ names }: SqlIdentifier): string {
  return names.at(-1)?.toLowerCase() ?? ''
}
