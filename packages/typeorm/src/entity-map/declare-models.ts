import type { AdapterHost, Field, ModelDeclaration, ModelOptions, RecordMap } from '@fieldseal/core/adapter'
import type { EntityMetadata } from 'typeorm'
import type { ColumnMetadata } from 'typeorm/metadata/ColumnMetadata.js'
import {
  annotatedTransformer,
  annotationOf,
  modelOptionsOf,
  type ColumnAnnotation,
  type Storage,
} from '../encrypted-column/annotation.ts'
import { comparable } from '../write-path/comparable.ts'
import { assertEncryptable, configError } from './column-rules.ts'
import {
  pathOf,
  turnsInPlace,
  type CompoundIndex,
  type EntityModel,
  type FactColumn,
  type SealedColumn,
} from './entity-model.ts'
import { resolveFacts, rowKeyKind, storedOptions } from './fact-columns.ts'
import { assignPlaces, declaredPlaintext, stateOf } from './plain-place.ts'
import { shareColumns } from './shared-columns.ts'
import { storedCompounds } from './stored-compounds.ts'
import { addCompoundColumns, addTokenColumns, addTokenIndexes } from './token-columns.ts'
import { addTripwire } from './tripwire.ts'
import { withStoredWhere } from './unique-where.ts'

/** What the registration says about all models. */
export interface ModelDefaults {
  readonly storage: Storage
  readonly tenantBy: string | undefined
  /** Names of collations under which different bytes may be equal. */
  readonly nonDeterministicCollations: ReadonlySet<string>
}

interface Annotated {
  readonly column: ColumnMetadata
  readonly annotation: ColumnAnnotation
  readonly storage: Storage
  /** The column of the old plaintext. */
  readonly declared: ColumnMetadata | undefined
}

/**
 * Turns the annotations of a DataSource's metadata into models: checks them, declares them to core, adds token columns,
 * their indexes and the tripwires. Runs after TypeORM has built its metadata and before it looks at the schema.
 *
 * @param define declares one model; the same declaration gives the same map
 * @throws FieldsealError ERR_CONFIG_INVALID naming model and field or option
 */
export function declareModels(
  all: readonly EntityMetadata[],
  host: Pick<AdapterHost, 'tenancy'>,
  define: (declaration: ModelDeclaration) => RecordMap,
  defaults: ModelDefaults,
): readonly EntityModel[] {
  const models: EntityModel[] = []
  const owners = new Map<string, EntityMetadata>()
  for (const root of all.filter((metadata) => metadata.parentEntityMetadata === undefined)) {
    const family = [root, ...all.filter((metadata) => rootOf(metadata) === root && metadata !== root)]
    const declared = declareFamily(family, all, host, define, defaults)
    if (declared.length === 0) continue
    const id = declared[0]?.map.id ?? root.tableName
    const other = owners.get(id)
    if (other !== undefined)
      throw configError(
        root,
        'id',
        `'${id}' is also the id of table '${other.tablePath}'`,
        'give one of them an id of its own: @EncryptedModel({ id })',
      )
    owners.set(id, root)
    models.push(...declared)
  }
  return models
}

function declareFamily(
  family: readonly EntityMetadata[],
  all: readonly EntityMetadata[],
  host: Pick<AdapterHost, 'tenancy'>,
  define: (declaration: ModelDeclaration) => RecordMap,
  defaults: ModelDefaults,
): readonly EntityModel[] {
  const [root] = family
  if (root === undefined) return []
  const annotated = root.columns.flatMap((column): Annotated[] => {
    const annotation = annotationOf(column)
    if (annotation === undefined) return []
    const storage = annotation.storage ?? defaults.storage
    return [{ column, annotation, storage, declared: declaredPlaintext(column, annotation, family, storage) }]
  })
  if (annotated.length === 0) return []
  shareColumns(
    annotated.flatMap(({ column, declared }) => [column, ...(declared === undefined ? [] : [declared])]),
    family,
  )
  for (const { column, annotation } of annotated) {
    const holdsPlaintext = stateOf(annotation) === 'plaintext' && annotation.field.plaintextIn === undefined
    for (const metadata of family) assertEncryptable(column, metadata, all, { holdsPlaintext })
  }

  const options = mergedOptions(family, host, defaults)
  const facts = resolveFacts(root, options, defaults.nonDeterministicCollations)
  const kindOf = ({ column }: FactColumn) => rowKeyKind(column, defaults.nonDeterministicCollations)
  const keys = root.primaryColumns.map((column): FactColumn => ({ path: pathOf(column), column }))
  const map = define({
    id: root.tableName,
    options: {
      ...storedOptions(options, facts.tenant, facts.keyspace),
      ...(options.compoundIndexes && { compoundIndexes: storedCompounds(options.compoundIndexes, root) }),
    },
    fields: annotated.map(({ column, annotation, declared }) => ({
      path: pathOf(column),
      type: annotation.type,
      options: {
        ...withStoredWhere(annotation.field, root),
        ...(declared === undefined ? {} : { plaintextIn: pathOf(declared) }),
      },
    })),
    rowKey: keys.map((key) => ({ path: key.path, kind: kindOf(key) })),
    factKinds: {
      ...(facts.tenant && { tenant: kindOf(facts.tenant) }),
      ...(facts.keyspace && { keyspace: kindOf(facts.keyspace) }),
    },
  })
  const columns = annotated.map((entry) => seal(entry, map, family, facts.tenant))
  const compounds = map.indexes.flatMap((index): CompoundIndex[] => {
    const ofIndex = index.fields.flatMap((field) => columns.filter((sealed) => sealed.field === field))
    return index.fields.length === 1 ? [] : [addCompoundColumns(index, ofIndex, family)]
  })
  for (const compound of compounds) addTokenIndexes(compound, root, facts.tenant)
  return family.map((metadata) => ({
    metadata,
    map,
    columns: columns.filter(({ column }) => metadata.columns.includes(column)),
    compounds,
    keys,
    ...facts,
    facts: distinct([...keys, facts.tenant, facts.keyspace]),
  }))
}

function seal(
  { column, annotation, storage, declared }: Annotated,
  map: RecordMap,
  family: readonly EntityMetadata[],
  tenant: FactColumn | undefined,
): SealedColumn {
  const [root] = family as readonly [EntityMetadata, ...EntityMetadata[]] // declareFamily() has looked
  const field = fieldAt(map, column, root)
  // Plaintext that turns in place sorts as it always did until nothing of it is left.
  if (storage === 'text' && (field.state === 'encrypted' || declared !== undefined)) column.collation = 'C'
  column.transformer = annotatedTransformer(annotation, comparable(field))
  const slots = field.blindIndex === undefined ? undefined : addTokenColumns(column, field.blindIndex, family)
  if (slots !== undefined) addTokenIndexes(slots, root, tenant)
  const sealed = { ...assignPlaces(column, declared, field.state, family), field, storage, slots }
  // Until a field is encrypted, the plaintext that stands in its own column may stay there.
  if (!turnsInPlace(sealed)) addTripwire(sealed, root)
  return sealed
}

function fieldAt(map: RecordMap, column: ColumnMetadata, root: EntityMetadata): Field {
  const { field } = map.at(pathOf(column))
  if (field === undefined) throw configError(root, column.databaseName, 'core does not know the field it was told of')
  return field
}

/** The root's options hold for the whole table; a child may repeat them, not differ. */
function mergedOptions(
  family: readonly EntityMetadata[],
  host: Pick<AdapterHost, 'tenancy'>,
  defaults: ModelDefaults,
): ModelOptions {
  const [root] = family as readonly [EntityMetadata, ...EntityMetadata[]]
  const options = modelOptionsOf(root)
  for (const child of family.slice(1)) {
    const own = modelOptionsOf(child)
    if (Object.keys(own).length > 0 && JSON.stringify(own) !== JSON.stringify(options)) {
      throw configError(
        child,
        'EncryptedModel',
        'a child of single-table inheritance has other options than its root',
        'annotate the root',
      )
    }
  }
  const tenantBy = options.tenantBy ?? defaults.tenantBy
  if (tenantBy === undefined && host.tenancy === 'multi') {
    throw configError(
      root,
      'tenantBy',
      "tenancy is 'multi' and the model names no tenant column",
      "name the property, or say tenantBy: 'none' for a database or schema per tenant",
    )
  }
  if (host.tenancy === 'single') return { ...options, tenantBy: options.tenantBy ?? 'none' }
  return tenantBy === undefined ? options : { ...options, tenantBy }
}

function rootOf(metadata: EntityMetadata): EntityMetadata {
  return metadata.parentEntityMetadata === undefined ? metadata : rootOf(metadata.parentEntityMetadata)
}

function distinct(facts: readonly (FactColumn | undefined)[]): readonly FactColumn[] {
  const byPath = new Map(facts.flatMap((fact) => (fact === undefined ? [] : [[fact.path, fact] as const])))
  return [...byPath.values()]
}
