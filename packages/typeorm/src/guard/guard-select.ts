import type { OwnBuilder } from '../install/typeorm-internals.ts'
import { FieldsealError } from '@fieldseal/core/adapter'
import { isPlaintext } from '../entity-map/entity-model.ts'
import { assertFragment, assertTables } from './guard.ts'

/**
 * Refuses a SELECT that would sort, group, aggregate or join by ciphertext. Conditions are guarded where they are
 * rendered; here the keys, not the rendered SQL: TypeORM may write `ORDER BY "p_email"`, the column's alias.
 *
 * @throws FieldsealError ERR_QUERY_UNSUPPORTED
 */
export function assertSelect(builder: OwnBuilder): void {
  if (builder.state.installation.models().models.length === 0) return
  assertTables(builder)
  const { expressionMap } = builder
  for (const join of expressionMap.joinAttributes) if (join.condition) assertFragment(builder, join.condition, 'join')
  for (const having of expressionMap.havings) assertFragment(builder, having.condition, 'having')
  for (const key of expressionMap.mainAlias === undefined ? [] : Object.keys(expressionMap.allOrderBys))
    assertKey(builder, key, 'order-by')
  for (const key of expressionMap.groupBys) assertKey(builder, key, 'group-by')
  for (const key of expressionMap.selectDistinctOn) assertKey(builder, key, 'distinct')
  assertSelections(builder)
}

function assertKey(builder: OwnBuilder, key: string, clause: 'order-by' | 'group-by' | 'distinct'): void {
  const aliased = builder.expressionMap.selects.find((select) => select.aliasName === key)
  if (aliased !== undefined && encryptedSelections(builder).has(aliased.selection)) throw refused(key, clause)
  assertFragment(builder, key, clause)
}

function assertSelections(builder: OwnBuilder): void {
  const { expressionMap } = builder
  const whole = (selection: string) => expressionMap.aliases.some(({ name }) => name === selection)
  const others = expressionMap.selects.filter(({ selection }) => !whole(selection))
  if (others.length > 0) {
    const plain = columnSelections(builder)
    for (const { selection } of others) if (!plain.has(selection)) assertFragment(builder, selection, 'select')
  }
  if (!expressionMap.selectDistinct) return
  const encrypted = encryptedSelections(builder)
  const selected = expressionMap.selects.find(({ selection }) => encrypted.has(selection))
  if (selected !== undefined) throw refused(selected.selection, 'distinct')
}

/** Whether a SELECT brings encrypted columns. */
export function selectsEncrypted(builder: OwnBuilder): boolean {
  const encrypted = encryptedSelections(builder)
  return builder.expressionMap.selects.some(({ selection }) => encrypted.has(selection))
}

/** Columns of the entities in the query, as selections: TypeORM renders those itself. */
function columnSelections({ expressionMap }: OwnBuilder): Set<string> {
  return new Set(
    expressionMap.aliases.flatMap((alias) =>
      alias.hasMetadata ? alias.metadata.columns.map((column) => `${alias.name}.${column.propertyPath}`) : [],
    ),
  )
}

/** Selections that bring encrypted columns: the columns, and aliases whose entity selects one by default. */
function encryptedSelections({ expressionMap, state }: OwnBuilder): Set<string> {
  const registry = state.installation.models()
  return new Set(
    expressionMap.aliases.flatMap((alias) => {
      const all = (alias.hasMetadata && registry.of(alias.metadata)?.columns) || []
      const columns = all.filter((sealed) => !isPlaintext(sealed))
      const byDefault = columns.some(({ column }) => column.isSelect)
      return [
        ...(byDefault ? [alias.name] : []),
        ...columns.map(({ column }) => `${alias.name}.${column.propertyPath}`),
      ]
    }),
  )
}

function refused(field: string, reason: string): FieldsealError {
  return new FieldsealError('ERR_QUERY_UNSUPPORTED', {
    field,
    reason,
    hint: 'the database sees ciphertext there: sort and group after reading',
  })
}
