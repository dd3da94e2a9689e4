import { FieldsealError, type OperationContext } from '@fieldseal/core/adapter'
import type { ObjectLiteral, QueryRunner } from 'typeorm'
import { quotedTable, type EntityModel, type SealedColumn } from '../entity-map/entity-model.ts'
import { viaOf, type Installation } from '../install/installation.ts'

/** Values that an update leaves as they are, and needs for tokens over several columns. */
export type StoredValues = ReadonlyMap<SealedColumn, unknown>

/** Columns that an update does not write, of compound indexes of which it writes others. */
export function missingComponents(model: EntityModel, set: ObjectLiteral): readonly SealedColumn[] {
  const missing = new Set<SealedColumn>()
  for (const { columns } of model.compounds) {
    const values = columns.map(({ column }): unknown => column.getEntityValue(set))
    // Any null leaves no token.
    if (values.every((value) => value === undefined) || values.includes(null)) continue
    for (const [at, column] of columns.entries()) if (values[at] === undefined) missing.add(column)
  }
  return [...missing]
}

/**
 * Reads and opens columns of one row and locks it: until the end of the transaction nobody else changes what its tokens
 * are computed of. The runner is in a transaction.
 *
 * @param key values of all key columns, by stored path
 * @returns undefined when the tenant has no such row
 * @throws FieldsealError ERR_TENANT_MISMATCH, and what opening throws
 */
export async function lockComponents(
  installation: Installation,
  runner: QueryRunner,
  model: EntityModel,
  {
    columns,
    key,
    context,
    tenant,
  }: {
    readonly columns: readonly SealedColumn[]
    readonly key: ReadonlyMap<string, unknown>
    readonly context: OperationContext
    readonly tenant: string
  },
): Promise<StoredValues | undefined> {
  const { driver } = installation.dataSource
  const parameters: unknown[] = []
  const isEqual = (name: string, value: unknown) => `${driver.escape(name)} = $${parameters.push(value)}`
  const conditions = model.keys.map(({ path, column }) =>
    isEqual(column.databaseName, driver.preparePersistentValue(key.get(path), column)),
  )
  if (model.tenant !== undefined) conditions.push(isEqual(model.tenant.column.databaseName, tenant))
  const selected = [...columns, ...model.facts].map(({ column }) => driver.escape(column.databaseName))
  const sql = `SELECT ${[...new Set(selected)].join(', ')} FROM ${quotedTable(model.metadata)} WHERE ${conditions.join(' AND ')} FOR UPDATE`
  const [row] = (await runner.query(sql, parameters)) as Record<string, unknown>[] // as TypeORM gives rows
  if (row === undefined) return undefined
  const known = Object.fromEntries(model.facts.map(({ path, column }) => [path, row[column.databaseName]]))
  const facts = model.map.facts(known, context)
  const cells = columns.flatMap(({ column, field }) => {
    const value = row[column.databaseName]
    return value === null || value === undefined ? [] : [{ field, value }]
  })
  const [opened] = await installation.host.cipher.open(
    [{ map: model.map, facts, cells }],
    context,
    viaOf(installation, runner),
  )
  const values = new Map(cells.map(({ field }, at) => [field, opened?.values[at]]))
  return new Map(columns.map((sealed) => [sealed, values.get(sealed.field) ?? null]))
}

/** An update of many rows has one set of values, and each row would need tokens of its own. */
export function refusePartial(model: EntityModel, columns: readonly SealedColumn[]): FieldsealError {
  const [index] = model.compounds.filter((compound) => columns.some((column) => compound.columns.includes(column)))
  const all = index?.columns.map(({ column }) => column.propertyPath).join(', ')
  return new FieldsealError('ERR_WRITE_UNSUPPORTED', {
    model: model.map.id,
    ...(index === undefined ? {} : { field: index.index.id }),
    operation: 'update',
    reason: 'compound-index',
    hint: `write all of ${all}, or name the row by its whole primary key`,
  })
}
