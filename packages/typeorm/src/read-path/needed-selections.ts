import type { ColumnMetadata } from 'typeorm/metadata/ColumnMetadata.js'
import type { SelectQuery } from 'typeorm/query-builder/SelectQuery.js'
import type { EntityModel } from '../entity-map/entity-model.ts'
import type { OwnBuilder } from '../install/typeorm-internals.ts'
import { rawKey, readTwin } from './row-sources.ts'

/**
 * Columns that a select of an encrypted entity needs and does not name: those that tell whose row it is, and for each
 * condition on a blind index the value and its tokens. Entities never hold them.
 */
export function neededSelections(
  builder: OwnBuilder,
  alias: string,
  model: EntityModel,
  selects: readonly SelectQuery[],
): SelectQuery[] {
  const terms = builder.state.terms.filter((term) => term.alias === alias)
  if (selects.length === 0 && terms.length === 0) return []
  const needed = new Set<ColumnMetadata>(model.facts.map(({ column }) => column))
  for (const { columns, slots } of terms) {
    for (const sealed of columns) {
      needed.add(sealed.column)
      const twin = readTwin(sealed)
      if (twin !== undefined) needed.add(twin)
    }
    needed.add(slots.odd).add(slots.even)
  }
  const present = new Set(selects.map(({ aliasName }) => aliasName))
  for (const sealed of model.columns) {
    const twin = present.has(rawKey(builder, alias, sealed.column)) ? readTwin(sealed) : undefined
    if (twin !== undefined) needed.add(twin)
  }
  const escapedAlias = builder.escape(alias)
  return [...needed].flatMap((column) => {
    const aliasName = rawKey(builder, alias, column)
    if (present.has(aliasName)) return []
    return [{ selection: `${escapedAlias}.${builder.escape(column.databaseName)}`, aliasName, virtual: true }]
  })
}

/**
 * Names in raw rows of columns that are needed only here: TypeORM puts into an entity that is selected as a whole whatever
 * its row has, also what `select: false` leaves out.
 */
export function hiddenKeys(builder: OwnBuilder): string[] {
  const { aliases, selects } = builder.expressionMap
  const selected = new Set(selects.map(({ selection }) => selection))
  return aliases.flatMap((alias) => {
    const model = alias.hasMetadata ? builder.state.installation.models().of(alias.metadata) : undefined
    if (model === undefined) return []
    const columns = [...model.columns, ...model.facts].map(({ column }) => column)
    const hidden = columns.filter(
      ({ isSelect, isPrimary, propertyPath }) =>
        !isSelect && !isPrimary && !selected.has(`${alias.name}.${propertyPath}`),
    )
    return hidden.map((column) => rawKey(builder, alias.name, column))
  })
}
