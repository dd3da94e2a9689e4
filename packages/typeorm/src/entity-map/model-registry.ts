import type { EntityMetadata } from 'typeorm'
import type { ColumnMetadata } from 'typeorm/metadata/ColumnMetadata.js'
import {
  isPlaintext,
  type CompoundIndex,
  type EntityModel,
  type SealedColumn,
  type TokenSlots,
} from './entity-model.ts'

/** The encrypted models of one DataSource, by everything that TypeORM hands us. Built when its metadata are. */
export interface ModelRegistry {
  readonly models: readonly EntityModel[]
  of(metadata: EntityMetadata): EntityModel | undefined
  sealed(column: ColumnMetadata): SealedColumn | undefined
  /** The encrypted column whose token stands in `column`. */
  ownerOfSlot(column: ColumnMetadata): SealedColumn | undefined
  /** The index over several columns whose token stands in `column`. */
  compoundOfSlot(column: ColumnMetadata): CompoundIndex | undefined
  /** The encrypted column whose other place is `column`. */
  ownerOfTwin(column: ColumnMetadata): SealedColumn | undefined
  /** Lower-case names of tables with encrypted columns. */
  readonly tableNames: ReadonlySet<string>
  /** Lower-case names and property paths of all encrypted and token columns. */
  readonly columnNames: ReadonlySet<string>
  /** SQL of the application that was found not to touch encrypted columns, for the guard. */
  readonly passedFragments: Set<string>
}

export function createModelRegistry(models: readonly EntityModel[]): ModelRegistry {
  const byMetadata = new Map(models.map((model) => [model.metadata, model]))
  const columns = models.flatMap((model) => model.columns)
  const sealed = new Map(columns.map((column) => [column.column, column]))
  const slots = new Map(columns.flatMap((owner) => slotColumns(owner).map((slot) => [slot, owner] as const)))
  const compounds = models.flatMap((model) => model.compounds)
  const compoundSlots = new Map(
    compounds.flatMap((compound) => [compound.odd, compound.even].map((slot) => [slot, compound] as const)),
  )
  const twins = new Map(columns.flatMap((owner) => (owner.twin === undefined ? [] : [[owner.twin, owner] as const])))
  return {
    models,
    of: (metadata) => byMetadata.get(metadata),
    sealed: (column) => sealed.get(column),
    ownerOfSlot: (column) => slots.get(column),
    compoundOfSlot: (column) => compoundSlots.get(column),
    ownerOfTwin: (column) => twins.get(column),
    tableNames: new Set(models.map((model) => model.metadata.tableName.toLowerCase())),
    columnNames: new Set([...columns.flatMap(namesOf), ...compounds.flatMap(tokenNamesOf)]),
    passedFragments: new Set(),
  }
}

/** Lower-case names under which SQL may reach an encrypted column or its tokens. */
export function namesOf(sealed: SealedColumn): string[] {
  const { column: own, twin } = sealed
  return [...(isPlaintext(sealed) ? [] : [own]), ...(twin === undefined ? [] : [twin]), ...slotColumns(sealed)].flatMap(
    lowerNames,
  )
}

/** The same for the tokens of several columns together. */
export function tokenNamesOf({ odd, even }: TokenSlots): string[] {
  return [odd, even].flatMap(lowerNames)
}

function lowerNames({ databaseName, propertyPath, propertyName }: ColumnMetadata): string[] {
  return [databaseName, propertyPath, propertyName].map((name) => name.toLowerCase())
}

function slotColumns({ slots }: SealedColumn): ColumnMetadata[] {
  return slots === undefined ? [] : [slots.odd, slots.even]
}
