import { DriverUtils } from 'typeorm/driver/DriverUtils.js'
import type { ColumnMetadata } from 'typeorm/metadata/ColumnMetadata.js'
import type { EntityModel } from '../entity-map/entity-model.ts'
import type { OwnBuilder } from '../install/typeorm-internals.ts'
import type { RawRow, RowSource } from './open-rows.ts'

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

function rowSource(builder: OwnBuilder, alias: string, model: EntityModel, sample: RawRow): RowSource[] {
  const keyOf = (column: ColumnMetadata) => rawKey(builder, alias, column)
  const keys = model.keys.map(({ column }) => keyOf(column))
  if (!keys.every((key) => key in sample)) return [] // joined, and nothing of it selected
  const terms = builder.state.terms.filter((term) => term.alias === alias && term.column.slots !== undefined)
  return [
    {
      model,
      keys,
      columns: model.columns
        .map((sealed) => ({ sealed, key: keyOf(sealed.column) }))
        .filter(({ key }) => key in sample),
      facts: model.facts.map(({ path, column }) => ({ path, key: keyOf(column) })),
      terms: terms.map((term) => ({
        term,
        valueKey: keyOf(term.column.column),
        tokenKeys: [term.column.slots?.odd, term.column.slots?.even].flatMap((slot) =>
          slot === undefined ? [] : [keyOf(slot)],
        ),
      })),
    },
  ]
}
