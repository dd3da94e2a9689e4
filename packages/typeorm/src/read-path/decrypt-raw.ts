import { FieldsealError } from '@fieldseal/core/adapter'
import type { ObjectLiteral, Repository } from 'typeorm'
import { DriverUtils } from 'typeorm/driver/DriverUtils.js'
import type { ColumnMetadata } from 'typeorm/metadata/ColumnMetadata.js'
import { tokenSlotsOf, type EntityModel } from '../entity-map/entity-model.ts'
import { findInstallation } from '../install/installation.ts'
import { openRows, type RawRow } from './open-rows.ts'
import { OpenedCell } from './opened-cell.ts'
import { sourceColumns } from './row-sources.ts'

export interface DecryptRawOptions {
  /** Alias under which the entity stands in the rows. @defaultValue found from the names in the rows */
  readonly alias?: string
}

/**
 * Decrypts raw rows of an entity: of `getRawMany()`, `stream()`, or SQL of your own. Returns copies in which the values
 * of encrypted columns are those that an entity would have; tokens are left out.
 *
 * The rows must hold the primary key, and the tenant's and data subject's column where the model has them. Columns go by
 * their names in the table, or by those that TypeORM gives them under one alias (`p_email`).
 *
 * @throws FieldsealError ERR_ARGUMENT_INVALID when such a column is missing or several aliases are possible,
 * ERR_TENANT_MISSING, ERR_TENANT_MISMATCH, and what opening throws
 */
export async function decryptRaw<E extends ObjectLiteral>(
  repository: Repository<E>,
  rows: readonly object[],
  options: DecryptRawOptions = {},
): Promise<Record<string, unknown>[]> {
  const { dataSource } = repository.manager
  const installation = findInstallation(dataSource)
  const copies = rows.map((row): RawRow => ({ ...row }))
  const model = installation?.models().of(repository.metadata)
  const [sample] = copies
  if (installation === undefined || model === undefined || sample === undefined) return copies
  const context = installation.host.capture()
  const nameOf = namesIn(sample, model, options.alias, (alias, column) =>
    DriverUtils.buildAlias(dataSource.driver, undefined, alias, column.databaseName),
  )
  const facts = model.facts.map(({ path, column }) => ({ path, key: nameOf(column) }))
  const missing = facts.find(({ key }) => !(key in sample))
  if (missing !== undefined) {
    throw new FieldsealError('ERR_ARGUMENT_INVALID', {
      model: model.map.id,
      field: missing.path,
      reason: 'the rows lack a column',
      hint: 'select it: it tells whose row it is',
    })
  }
  const columns = sourceColumns(model, nameOf, sample)
  const source = { model, columns, facts, keys: model.keys.map(({ column }) => nameOf(column)), terms: [] }
  await openRows(installation, copies, [source], context, repository.queryRunner)
  for (const row of copies) {
    for (const { key, twinKey } of columns) {
      const cell = row[key]
      if (OpenedCell.isOpened(cell)) row[key] = OpenedCell.valueOf(cell)
      if (twinKey !== undefined) Reflect.deleteProperty(row, twinKey)
    }
    for (const { odd, even } of tokenSlotsOf(model))
      for (const slot of [odd, even]) Reflect.deleteProperty(row, nameOf(slot))
  }
  return copies
}

function namesIn(
  sample: RawRow,
  model: EntityModel,
  given: string | undefined,
  named: (alias: string, column: ColumnMetadata) => string,
): (column: ColumnMetadata) => string {
  if (given !== undefined) return (column) => named(given, column)
  const keys = model.keys.map(({ column }) => column)
  if (keys.every((column) => column.databaseName in sample)) return (column) => column.databaseName
  const [first] = keys
  const suffix = `_${first?.databaseName}`
  const candidates = Object.keys(sample)
    .filter((key) => key.endsWith(suffix))
    .map((key) => key.slice(0, -suffix.length))
  const aliases = candidates.filter((alias) => keys.every((column) => named(alias, column) in sample))
  const [alias] = aliases
  if (alias === undefined || aliases.length > 1) {
    throw new FieldsealError('ERR_ARGUMENT_INVALID', {
      model: model.map.id,
      reason: alias === undefined ? 'the rows lack the primary key' : 'the rows hold several entities',
      hint: "select the primary key, and say which alias: decryptRaw(repository, rows, { alias: 'p' })",
    })
  }
  return (column) => named(alias, column)
}
