import { FieldsealError } from '@fieldseal/core/adapter'
import type { Driver } from 'typeorm'
import type { EntityModel, SealedColumn } from '../entity-map/entity-model.ts'
import { columnFindings } from '../record-source/inspect.ts'
import { columnTypes, onPrimary, tableOf } from '../record-source/table.ts'
import type { Installation } from './installation.ts'

/**
 * Refuses to synchronise a table, or to generate a migration for it, where TypeORM would drop a column with values that
 * are not encrypted yet: an annotated column of another type, one that was renamed by its annotation, and the old column
 * of a field before its values have moved.
 *
 * @throws FieldsealError ERR_CONFIG_INVALID naming table and column
 */
export async function assertNothingDropped(installation: Installation): Promise<void> {
  for (const map of new Set(installation.models().models.map((model) => model.map))) {
    const wrong = (await columnFindings(installation, map))?.find(({ found }) => found !== undefined)
    if (wrong === undefined) continue
    throw refused(
      map.id,
      wrong.column,
      `the column is ${wrong.found}, expected ${wrong.expected}: TypeORM would drop it with its data`,
      'go by state and plaintextIn, and write the migration with encryptColumnMigration()',
    )
  }
  for (const model of installation.models().models) await assertOldColumnsKept(installation, model)
}

/** The schema builder behind `migration:generate`, `schema:log` and their checks. */
export function guardSchemaBuilder(driver: Driver, installation: Installation): void {
  const createSchemaBuilder = driver.createSchemaBuilder.bind(driver)
  driver.createSchemaBuilder = () => {
    const builder = createSchemaBuilder()
    const log = builder.log.bind(builder)
    builder.log = async () => {
      await assertNothingDropped(installation)
      return log()
    }
    return builder
  }
}

async function assertOldColumnsKept(
  installation: Installation,
  { metadata, map, columns }: EntityModel,
): Promise<void> {
  if (metadata.parentEntityMetadata !== undefined) return
  const table = tableOf(installation, map)
  const declared = new Set(metadata.columns.map(({ databaseName }) => databaseName))
  for (const sealed of columns) {
    for (const name of oldNames(installation, sealed)) {
      if (declared.has(name)) continue
      const holdsValues = await onPrimary(installation, async (query) => {
        if (!(await columnTypes(table, query)).has(name)) return false
        const column = installation.dataSource.driver.escape(name)
        const [row] = await query(`SELECT EXISTS (SELECT 1 FROM ${table.name} WHERE ${column} IS NOT NULL) AS found`)
        return row?.['found'] === true
      })
      if (holdsValues)
        throw refused(
          map.id,
          name,
          `values stand in the column, which the entity does not declare: TypeORM would drop it`,
          `declare it, say plaintextIn: '${name}' for ${sealed.field.path}, and move its values with backfill first`,
        )
    }
  }
}

/** Columns in which the values of a field may have stood. */
function oldNames({ dataSource }: Installation, { field, column }: SealedColumn): readonly string[] {
  const prefixes = column.embeddedMetadata?.parentPrefixes ?? []
  const byProperty = dataSource.namingStrategy.columnName(column.propertyName, '', prefixes)
  return field.plaintextIn === undefined ? [byProperty] : [byProperty, field.plaintextIn]
}

function refused(model: string, field: string, reason: string, hint: string): FieldsealError {
  return new FieldsealError('ERR_CONFIG_INVALID', { model, field, reason, hint })
}
