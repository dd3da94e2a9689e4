import { FieldsealError, type TokenSlot, type TokenTerm } from '@fieldseal/core/adapter'
import type { ObjectLiteral } from 'typeorm'
import type { InsertOrUpdateOptions } from 'typeorm/query-builder/InsertOrUpdateOptions.js'
import {
  isPlaintext,
  tokenSlotsOf,
  type EntityModel,
  type SealedColumn,
  type TokenSlots,
} from '../entity-map/entity-model.ts'

/** An `ON CONFLICT … DO UPDATE`, by column names. */
export interface UpsertPlan {
  readonly overwrite: readonly string[]
  /** Conflict target; tokens stand for their encrypted columns. A string names a constraint. */
  readonly target: readonly (string | TokenSlots)[] | string | undefined
  /** Tenant column that belongs to the target: unique indexes are per tenant. */
  readonly tenant: string | undefined
  /** What the database needs to know to find the partial index of the target; undefined = it is not partial. */
  readonly predicate: string | undefined
  /** Key columns that the statement would overwrite: allowed where the surviving row has the same key. */
  readonly keys: readonly string[]
  /** What to look for to learn in which slot the tokens of the target stand; undefined where nothing has one. */
  probe(rows: readonly ObjectLiteral[]): TokenTerm | undefined
}

/**
 * Checks an upsert and maps it to token columns.
 *
 * @throws FieldsealError ERR_WRITE_UNSUPPORTED for what would leave values that no longer open, or overwrite without a word
 */
export function planUpsert(
  model: EntityModel,
  given: readonly string[],
  target: string | readonly string[] | undefined,
  options: InsertOrUpdateOptions | undefined,
): UpsertPlan {
  const sealed = new Map(model.columns.map((column) => [column.column.databaseName, column]))
  const slots = tokenSlotsOf(model).flatMap(({ odd, even }) => [odd.databaseName, even.databaseName])
  const overwrite = given.filter((name) => !slots.includes(name)) // tokens go with their values
  const conflict = typeof target === 'object' ? target : []
  const refuse = (reason: string, hint: string, field?: string): never => {
    throw new FieldsealError('ERR_WRITE_UNSUPPORTED', {
      model: model.map.id,
      ...(field === undefined ? {} : { field }),
      operation: 'upsert',
      reason,
      hint,
    })
  }
  const keys = model.keys
    .map(({ column }) => column.databaseName)
    .filter((name) => overwrite.includes(name) && !conflict.includes(name))
  // Then every row that was sent must come back.
  const counted = model.tenant !== undefined || keys.length > 0
  const isSealed = (name: string) => isEncrypted(sealed.get(name))
  if (options?.skipUpdateIfNoValuesChanged && (counted || overwrite.some(isSealed))) {
    refuse('skip-update-if-no-values-changed', 'new ciphertext always differs from the stored one')
  }
  if (options?.overwriteCondition?.where !== undefined && counted) {
    refuse(
      'upsert-condition',
      'rows left out by a condition cannot be told from rows of another tenant or with another key',
    )
  }
  const keyspace = model.keyspace?.column.databaseName
  if (keyspace !== undefined && !conflict.includes(keyspace)) {
    refuse(
      'keyspace-unknown',
      'the row that survives may belong to another keyspace: make the column part of the conflict target',
      keyspace,
    )
  }
  const [compound] = model.compounds
    .filter(
      ({ index, columns }) => index.unique && columns.every(({ column }) => conflict.includes(column.databaseName)),
    )
    .toSorted((a, b) => b.columns.length - a.columns.length)
  const ofCompound = compound?.columns.map(({ column }) => column.databaseName) ?? []
  const single = conflict.filter((name) => !ofCompound.includes(name))
  const parts = single.map((name) => {
    const column = sealed.get(name)
    if (column === undefined || !isEncrypted(column)) return name
    const { slots } = column
    if (slots?.index.unique !== true)
      return refuse('no-blind-index', 'a conflict target needs blindIndex: { unique: true }', name)
    return slots
  })
  const targets = [...parts, ...(compound === undefined ? [] : [compound])]
  const tokens = targets.filter((part) => typeof part === 'object')
  const predicates = tokens.flatMap(({ where }) => where ?? [])
  const perTenant = tokens.some(({ index }) => !index.acrossTenants)
  const beside = model.compounds.flatMap(({ index, columns, odd, even }) => {
    const written = columns.filter(({ column }) => overwrite.includes(column.databaseName))
    if (written.length === 0) return []
    if (written.length < columns.length)
      refuse(
        'compound-index',
        `a row in conflict may hold other values than the statement: overwrite all of ${propertiesOf(columns)}`,
        index.id,
      )
    return [odd.databaseName, even.databaseName]
  })
  return {
    overwrite: [...new Set([...overwrite.flatMap((name) => [name, ...besideNames(sealed.get(name))]), ...beside])],
    target: typeof target === 'string' ? target : target && targets,
    keys,
    predicate: predicates.length === 0 ? undefined : predicates.join(' AND '),
    tenant: perTenant ? model.tenant?.column.databaseName : undefined,
    probe(rows) {
      const [slots] = tokens
      if (slots === undefined) return undefined
      const columns = slots.index.fields.map((field) => model.columns.find((column) => column.field === field))
      const samples = rows.map((row) => columns.map((column): unknown => column?.column.getEntityValue(row)))
      const values = samples.find((sample) => sample.every((value) => value !== undefined && value !== null))
      return values && { index: slots.index, values }
    },
  }
}

/** Why fewer rows came back than were sent. */
export function missingRows(model: EntityModel, { keys }: UpsertPlan): FieldsealError {
  const details = { model: model.map.id, operation: 'upsert' }
  if (model.tenant === undefined)
    return new FieldsealError('ERR_WRITE_UNSUPPORTED', {
      ...details,
      reason: 'key-change',
      hint: 'values are bound to their key: leave it out',
    })
  const reason =
    keys.length === 0
      ? 'a row in conflict belongs to another tenant'
      : 'a row in conflict belongs to another tenant or has another primary key'
  return new FieldsealError('ERR_TENANT_MISMATCH', { ...details, reason })
}

/** The conflict target as TypeORM takes it, with the tokens of one slot. */
export function conflictColumns({ target, tenant }: UpsertPlan, slot: TokenSlot): string | string[] | undefined {
  if (typeof target !== 'object') return target
  const names = target.flatMap((part) => (typeof part === 'string' ? [part] : [part[slot].databaseName]))
  return [...new Set(tenant === undefined ? names : [...names, tenant])]
}

/** What is overwritten with a value: its tokens, and the other column of its field. */
function besideNames(sealed: SealedColumn | undefined): string[] {
  const columns = [sealed?.slots?.odd, sealed?.slots?.even, sealed?.twin]
  return columns.flatMap((column) => column?.databaseName ?? [])
}

function propertiesOf(columns: readonly SealedColumn[]): string {
  return columns.map(({ column }) => column.propertyPath).join(', ')
}

function isEncrypted(sealed: SealedColumn | undefined): boolean {
  return sealed !== undefined && !isPlaintext(sealed)
}
