import { FieldsealError } from '@fieldseal/core/adapter'
import { DriverUtils } from 'typeorm/driver/DriverUtils.js'
import type { ColumnMetadata } from 'typeorm/metadata/ColumnMetadata.js'
import type { EntityModel, SealedColumn } from '../entity-map/entity-model.ts'
import type { OwnBuilder } from '../install/typeorm-internals.ts'
import type { RawRow, RowSource, SourceColumn } from './open-rows.ts'

/** Name of a column in the raw rows of a select. */
export function rawKey(builder: Pick<OwnBuilder, 'dataSource'>, alias: string, column: ColumnMetadata): string {
  return DriverUtils.buildAlias(builder.dataSource.driver, undefined, alias, column.databaseName)
}

/** The encrypted entities of a select, by what its rows really hold. */
export function rowSourcesOf(builder: OwnBuilder, sample: RawRow): RowSource[] {
  const registry = builder.state.installation.models()
  return builder.expressionMap.aliases.flatMap((alias) => {
    const model = alias.hasMetadata ? registry.of(alias.metadata) : undefined
    return model === undefined ? [] : rowSource(builder, alias.name, model, sample)
  })
}

/**
 * The encrypted columns that a result set really holds.
 * @throws FieldsealError ERR_ARGUMENT_INVALID when one comes without the other column of its field
 */
export function sourceColumns(
  model: EntityModel,
  keyOf: (column: ColumnMetadata) => string,
  sample: RawRow,
): readonly SourceColumn[] {
  return model.columns.flatMap((sealed) => {
    const key = keyOf(sealed.column)
    if (!(key in sample)) return []
    const twin = readTwin(sealed)
    const twinKey = twin === undefined ? undefined : keyOf(twin)
    if (twin === undefined || twinKey === undefined || twinKey in sample) return [{ sealed, key, twinKey }]
    throw new FieldsealError('ERR_ARGUMENT_INVALID', {
      model: model.map.id,
      field: twin.databaseName,
      reason: 'the rows lack a column',
      hint: 'select it too: the value stands in one of the two',
    })
  })
}

/** The other column of a field, where reads have to look. */
export function readTwin({ field, twin }: SealedColumn): ColumnMetadata | undefined {
  return field.state === 'encrypted' ? undefined : twin
}

function rowSource(builder: OwnBuilder, alias: string, model: EntityModel, sample: RawRow): RowSource[] {
  const keyOf = (column: ColumnMetadata) => rawKey(builder, alias, column)
  const keys = model.keys.map(({ column }) => keyOf(column))
  if (!keys.every((key) => key in sample)) return [] // joined, and nothing of it selected
  const terms = builder.state.terms.filter((term) => term.alias === alias)
  return [
    {
      model,
      keys,
      columns: sourceColumns(model, keyOf, sample),
      facts: model.facts.map(({ path, column }) => ({ path, key: keyOf(column) })),
      terms: terms.map((term) => ({
        term,
        valueKeys: term.columns.map(({ column }) => keyOf(column)),
        tokenKeys: [term.slots.odd, term.slots.even].map(keyOf),
      })),
    },
  ]
}
