import { createHash } from 'node:crypto'
import type { ColumnType, EntityMetadata } from 'typeorm'
import { ColumnMetadata } from 'typeorm/metadata/ColumnMetadata.js'
import { IndexMetadata } from 'typeorm/metadata/IndexMetadata.js'
import type { BlindIndex } from '@fieldseal/core/adapter'
import { TOKEN_TYPE } from '../encrypted-column/annotation.ts'
import { configError } from './column-rules.ts'
import type { CompoundIndex, FactColumn, SealedColumn, TokenSlots } from './entity-model.ts'
import { wherePredicate } from './unique-where.ts'

/** Bytes of a PostgreSQL identifier. */
const MAX_NAME_BYTES = 63
const HASH_DIGITS = 8

/**
 * Adds the two token columns of a blind index to an entity, and to those of its children that have the column.
 *
 * The mode `virtual` makes them real columns of table and statements that entities never hold: TypeORM neither hydrates
 * them, nor compares them, nor sets them to null after a save.
 */
export function addTokenColumns(
  column: ColumnMetadata,
  index: BlindIndex,
  family: readonly EntityMetadata[],
): TokenSlots {
  return addSlots(
    column,
    index,
    family.filter(({ columns }) => columns.includes(column)),
  )
}

/**
 * The same for an index over several columns: `<id>_bidx` and `<id>_bidx_next`.
 *
 * @throws FieldsealError ERR_CONFIG_INVALID unless all its columns are properties of every entity of the table
 */
export function addCompoundColumns(
  index: BlindIndex,
  columns: readonly SealedColumn[],
  family: readonly EntityMetadata[],
): CompoundIndex {
  const [root] = family as readonly [EntityMetadata, ...EntityMetadata[]] // a family has a root
  for (const { column } of columns) {
    const where = `compoundIndexes.${index.id}: `
    if (column.embeddedMetadata !== undefined)
      throw configError(
        root,
        column.propertyPath,
        `${where}a property of an embedded entity`,
        'name properties of the entity itself',
      )
    if (!family.every((metadata) => metadata.columns.includes(column)))
      throw configError(
        root,
        column.propertyPath,
        `${where}not all entities of the table have the property`,
        'declare it in the root',
      )
  }
  const named = { entityMetadata: root, target: root.target, databaseName: index.id, propertyName: index.id }
  return { ...addSlots(named, index, family), columns }
}

/** What a token column is named after. */
type Named = Pick<ColumnMetadata, 'entityMetadata' | 'target' | 'databaseName' | 'propertyName'> &
  Partial<Pick<ColumnMetadata, 'embeddedMetadata'>>

function addSlots(named: Named, index: BlindIndex, entities: readonly EntityMetadata[]): TokenSlots {
  const slots = {
    index,
    where: wherePredicate(index, named.entityMetadata),
    odd: tokenColumn(named, 'bidx'),
    even: tokenColumn(named, 'bidx_next'),
  }
  for (const metadata of entities) {
    for (const slot of [slots.odd, slots.even]) {
      if (
        metadata.columns.some(
          (other) => other.databaseName === slot.databaseName || other.propertyPath === slot.propertyPath,
        )
      ) {
        throw configError(metadata, slot.databaseName, 'the name is needed for the tokens of a blind index')
      }
      metadata.columns.push(slot)
      // Without embedded columns TypeORM keeps both lists as one array.
      if (metadata.ownColumns !== metadata.columns && slot.embeddedMetadata === undefined)
        metadata.ownColumns.push(slot)
    }
  }
  return slots
}

/**
 * Indexes both slots; unique ones per tenant unless the index is for all tenants. One that is unique for some rows only
 * gets another for look-ups, which do not say that they mean these rows.
 */
export function addTokenIndexes(
  { index: { unique, acrossTenants }, where, odd, even }: TokenSlots,
  metadata: EntityMetadata,
  tenant: FactColumn | undefined,
): void {
  const scope = unique && !acrossTenants && tenant !== undefined ? [tenant.column] : []
  const add = (columns: ColumnMetadata[], options: { readonly unique: boolean; readonly where?: string }) => {
    const index = new IndexMetadata({
      entityMetadata: metadata,
      columns,
      args: { target: metadata.target, synchronize: true, ...options },
    })
    metadata.indices.push(index.build(metadata.dataSource.namingStrategy))
  }
  for (const slot of [odd, even]) {
    // The token stands first: look-ups know nothing but the token.
    if (where === undefined) add([slot, ...scope], { unique })
    else {
      add([slot], { unique: false })
      add([slot, ...scope], { unique: true, where })
    }
  }
}

function tokenColumn(column: Named, suffix: string): ColumnMetadata {
  const { entityMetadata, embeddedMetadata, target } = column
  const name = tokenColumnName(column.databaseName, suffix)
  const slot = new ColumnMetadata({
    entityMetadata,
    ...(embeddedMetadata === undefined ? {} : { embeddedMetadata }),
    args: {
      target,
      mode: 'virtual',
      propertyName: `${column.propertyName}_${suffix}`,
      options: { type: TOKEN_TYPE as ColumnType, nullable: true, select: false, name },
    },
  }).build(entityMetadata.dataSource)
  // Not what a naming strategy makes of it: the pair must be recognisable, and fit.
  slot.databasePath = slot.databasePath.slice(0, -slot.databaseName.length) + name
  slot.databaseName = name
  return slot
}

/** `<column>_<suffix>`, shortened by a hash of the column's name where it would exceed 63 bytes. */
export function tokenColumnName(column: string, suffix: string): string {
  const room = MAX_NAME_BYTES - suffix.length - 1
  if (Buffer.byteLength(column) <= room) return `${column}_${suffix}`
  const hash = createHash('sha256').update(column).digest('hex').slice(0, HASH_DIGITS)
  let head = column
  while (Buffer.byteLength(head) > room - HASH_DIGITS - 1) head = Array.from(head).slice(0, -1).join('')
  return `${head}_${hash}_${suffix}`
}
