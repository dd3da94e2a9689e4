import { randomUUID } from 'node:crypto'
import { FieldsealError, tokenSlot } from '@fieldseal/core/adapter'
import {
  InsertQueryBuilder,
  type DataSource,
  type InsertResult,
  type ObjectLiteral,
  type QueryBuilder,
  type QueryRunner,
} from 'typeorm'
import type { ColumnMetadata } from 'typeorm/metadata/ColumnMetadata.js'
import type { InsertOrUpdateOptions } from 'typeorm/query-builder/InsertOrUpdateOptions.js'
import { Sealed } from '../carrier/sealed.ts'
import { WrittenRow } from '../carrier/written-row.ts'
import {
  isPlaintext,
  needsKeys,
  type CompoundIndex,
  type EntityModel,
  type SealedColumn,
  type TokenSlots,
} from '../entity-map/entity-model.ts'
import { assertFragment, assertTables } from '../guard/guard.ts'
import { viaOf } from '../install/installation.ts'
import type { OwnBuilder } from '../install/typeorm-internals.ts'
import { stateFrom, type BuilderState } from '../query-rewrite/builder-state.ts'
import { equip } from '../query-rewrite/equip.ts'
import { refusedTwin } from '../query-rewrite/rewrite-where.ts'
import { openReturned, returnedColumns } from '../read-path/returning.ts'
import { assertValue, valueToIndex } from './comparable.ts'
import { withIgnored } from './ignored-rows.ts'
import { insertedFacts, keyspacesOf } from './row-facts.ts'
import { undoable, withRunner } from './undoable.ts'
import { conflictColumns, missingRows, planUpsert, type UpsertPlan } from './upsert.ts'

/** One row of the statement at hand: its encrypted values, and the keys made for it here. */
interface InsertedRow {
  readonly written: WrittenRow
  readonly uuids: ReadonlyMap<ColumnMetadata, string>
}

/** Inserts and upserts: every encrypted value becomes a carrier, every blind index two token parameters. */
export class FieldsealInsertQueryBuilder<E extends ObjectLiteral> extends InsertQueryBuilder<E> {
  static {
    equip(this)
  }
  state: BuilderState
  #rows: InsertedRow[] = []
  #upsert: UpsertPlan | undefined

  constructor(source: DataSource | QueryBuilder<ObjectLiteral>, runner?: QueryRunner) {
    super(source as DataSource, runner) // TypeORM takes either
    this.state = stateFrom(source, this.dataSource)
    if (source instanceof FieldsealInsertQueryBuilder) this.#upsert = source.#upsert
  }

  override orUpdate(overwrite: string[], conflictTarget?: string | string[], options?: InsertOrUpdateOptions): this {
    const model = this.#model
    if (model === undefined) return super.orUpdate(overwrite, conflictTarget, options)
    const plan = planUpsert(model, overwrite, conflictTarget, options)
    const predicates = [options?.indexPredicate, plan.predicate].filter((predicate) => predicate !== undefined)
    super.orUpdate([...plan.overwrite], conflictColumns(plan, 'odd'), {
      ...options,
      ...(predicates.length === 0 ? {} : { indexPredicate: predicates.map((each) => `(${each})`).join(' AND ') }),
    })
    if (this.state.terms.length > 0)
      throw this.#refuse('upsert-condition', 'a condition on an encrypted column cannot stand in ON CONFLICT')
    if (options?.indexPredicate !== undefined) assertFragment(this.#own, options.indexPredicate, 'on-conflict')
    this.#upsert = plan
    return this
  }

  override async execute(): Promise<InsertResult> {
    const model = this.#model
    const valueSets = this.getValueSets()
    if (model === undefined || (valueSets.length === 0 && !this.expressionMap.insertFromSelect)) return super.execute()
    const { installation } = this.state
    const context = this.state.requireContext()
    const via = viaOf(installation, this.queryRunner)
    if (model.columns.some(needsKeys))
      await installation.host.load([model.map], context, { via, keyspaces: keyspacesOf(model, valueSets, context) })
    if (this.#upsert === undefined) return this.#run(model)
    model.map.predicate(context) // refuses work across tenants
    await this.#chooseConflictSlot(this.#upsert, via)
    return this.#mustReturnAll ? this.#runUndoable(model, this.#upsert, valueSets.length) : this.#run(model)
  }

  override getQuery(): string {
    assertTables(this.#own)
    const { insertFromSelect } = this.expressionMap
    if (insertFromSelect !== undefined && this.#model !== undefined) {
      throw this.#refuse(
        'insert-from-select',
        'the database would copy values that are bound to another place: read and save them',
      )
    }
    if (insertFromSelect !== undefined) assertFragment(this.#own, insertFromSelect.getQuery(), 'derived-table')
    this.#rows = []
    return super.getQuery()
  }

  protected override createInsertExpression(): string {
    const { onUpdate } = this.expressionMap
    if (this.#model !== undefined && this.#upsert === undefined && onUpdate !== undefined) {
      throw this.#refuse('upsert', 'use orUpdate() or upsert()')
    }
    // On the conflict branch too: another tenant's row must not be overwritten under this tenant's key, nor a row get another key.
    if (this.#mustReturnAll) onUpdate.overwriteCondition = [{ type: 'simple', condition: this.#conflictCondition() }]
    return super.createInsertExpression()
  }

  protected override createUpsertConditionExpression(tableOrAlias: string): string {
    const sql = super.createUpsertConditionExpression(tableOrAlias)
    assertFragment(this.#own, sql, 'on-conflict')
    return sql
  }

  protected override getInsertedColumns(): ColumnMetadata[] {
    const named = super.getInsertedColumns()
    // `into(entity, columns)` names the value; what stands beside it must come along, or the row could not be found.
    const registry = this.state.installation.models()
    const { keys = [], compounds = [] } = this.#model ?? {}
    const columns = [...named, ...this.#sealedNulls.filter((column) => !named.includes(column))]
    const beside = [
      // A key made here is what values are bound to: it must be stored.
      ...keys.flatMap(({ column }) => (isMadeHere(column) ? [column] : [])),
      ...columns.flatMap((column) => besideOf(registry.sealed(column))),
      ...compounds.flatMap(({ columns: of, odd, even }) =>
        of.some(({ column }) => columns.includes(column)) ? [odd, even] : [],
      ),
    ]
    return [...columns, ...beside.filter((other) => !columns.includes(other))]
  }

  protected override createColumnValueExpression(
    valueSets: ObjectLiteral[],
    index: number,
    column: ColumnMetadata,
  ): string {
    const model = this.#model
    const valueSet = valueSets[index] ?? {}
    const given: unknown = column.getEntityValue(valueSet)
    if (typeof given === 'function' && !this.#isEncrypted(column)) assertFragment(this.#own, String(given()), 'set')
    if (model === undefined) return super.createColumnValueExpression(valueSets, index, column)
    const row = (this.#rows[index] ??= this.#startRow(model, valueSet, index))
    const uuid = row.uuids.get(column)
    if (uuid !== undefined) return this.createParameter(uuid)
    const registry = this.state.installation.models()
    const twinOf = registry.ownerOfTwin(column)
    if (twinOf !== undefined) {
      if (given !== undefined && given !== null) throw refusedTwin(twinOf, 'ERR_WRITE_UNSUPPORTED')
      return 'NULL' // not its default: the value stands in the other column
    }
    const compound = registry.compoundOfSlot(column)
    if (compound !== undefined) return this.#compoundToken(compound, column, row.written, valueSet)
    const owner = registry.ownerOfSlot(column)
    const sealed = owner ?? registry.sealed(column)
    if (sealed === undefined || (owner === undefined && isPlaintext(sealed)))
      return super.createColumnValueExpression(valueSets, index, column)
    const { insertColumns } = this.expressionMap
    const isNamed = insertColumns.length === 0 || insertColumns.includes(column.propertyPath)
    const value = isNamed ? valueToSeal(sealed, valueSet) : null
    // DEFAULT and NULL are both null here: an encrypted column has no default.
    if (value === undefined) return 'DEFAULT'
    const cell = row.written.add(sealed, value)
    const slot = owner?.slots?.odd === column ? 'odd' : 'even'
    return this.createParameter(
      new Sealed(
        owner === undefined
          ? { kind: 'value', row: row.written, cell }
          : { kind: 'token', row: row.written, index: (owner.slots as TokenSlots).index, slot }, // it owns a slot
      ),
    )
  }

  protected override getReturningColumns(): ColumnMetadata[] {
    const model = this.#model
    const columns = super.getReturningColumns()
    if (model === undefined) return columns
    const keys = this.#mustReturnAll || this.#mayIgnore ? model.keys.map(({ column }) => column) : []
    return returnedColumns(model, [...columns, ...keys.filter((key) => !columns.includes(key))])
  }

  /** Columns that hold an envelope even where nobody gives a value. */
  get #sealedNulls(): readonly ColumnMetadata[] {
    const columns = this.#model?.columns ?? []
    return columns.flatMap((sealed) => (sealed.field.encryptNull && !isPlaintext(sealed) ? [sealed.column] : []))
  }

  /** None where one of the values is null, or is not inserted. */
  #compoundToken(
    { index, columns, odd }: CompoundIndex,
    slot: ColumnMetadata,
    row: WrittenRow,
    valueSet: ObjectLiteral,
  ): string {
    const inserted = this.getInsertedColumns()
    const values = columns.map((sealed) =>
      inserted.includes(sealed.column) ? valueToSeal(sealed, valueSet) : undefined,
    )
    if (values.includes(undefined)) return 'DEFAULT'
    for (const [at, sealed] of columns.entries()) row.add(sealed, values[at])
    return this.createParameter(new Sealed({ kind: 'token', row, index, slot: slot === odd ? 'odd' : 'even' }))
  }

  async #run(model: EntityModel): Promise<InsertResult> {
    const valueSets = this.getValueSets()
    const giveBack = this.#mayIgnore
      ? withIgnored(model, valueSets, (index, key) => this.#rows[index]?.uuids.get(key))
      : undefined
    const result = await super.execute()
    await openReturned(this.#own, model, result, valueSets)
    giveBack?.(result)
    return result
  }

  /** Rows of other tenants come back missing; then nothing of the statement may stay. */
  async #runUndoable(model: EntityModel, plan: UpsertPlan, sent: number): Promise<InsertResult> {
    return withRunner(this.#own, (runner) =>
      undoable(runner, async () => {
        const result = await this.#run(model)
        const returned: unknown = result.raw
        if (!Array.isArray(returned) || returned.length < sent) throw missingRows(model, plan)
        return result
      }),
    )
  }

  async #chooseConflictSlot(plan: UpsertPlan, via: unknown): Promise<void> {
    const { host } = this.state.installation
    const term = plan.probe(this.getValueSets())
    if (term === undefined) return
    const [tokens = []] = await host.cipher.tokens([term], this.state.requireContext(), via)
    const conflict = conflictColumns(plan, tokens[0] === undefined ? 'odd' : tokenSlot(tokens[0]))
    if (conflict !== undefined) this.expressionMap.onUpdate.conflict = conflict
  }

  #startRow(model: EntityModel, valueSet: ObjectLiteral, index: number): InsertedRow {
    const context = this.state.requireContext()
    const uuids = this.#makeUuids(model, valueSet, index)
    const inserted = new Set(this.getInsertedColumns())
    const facts = insertedFacts(
      model,
      context,
      (column) => uuids.get(column) ?? (inserted.has(column) ? column.getEntityValue(valueSet) : undefined),
      this.#upsert !== undefined,
    )
    const atHand = this.queryRunner && this.state.installation.rowsAtHand.get(this.queryRunner)
    atHand?.remember(model.map, facts)
    return { written: new WrittenRow(model.map, facts, context), uuids }
  }

  /** Keys that the database would make are made here, so that the row's values can be bound to it. */
  #makeUuids(model: EntityModel, valueSet: ObjectLiteral, index: number): ReadonlyMap<ColumnMetadata, string> {
    const made = new Map<ColumnMetadata, string>()
    const { onIgnore, locallyGenerated } = this.expressionMap
    // The row that survives a conflict has a key of its own, or there is none: RETURNING tells it.
    const isTold = this.#upsert !== undefined || Boolean(onIgnore)
    for (const { column } of model.keys) {
      const missing = column.getEntityValue(valueSet) === undefined
      if (!missing || !isMadeHere(column)) continue
      const uuid = randomUUID()
      made.set(column, uuid)
      if (!isTold) column.setEntityValue((locallyGenerated[index] ??= {}), uuid)
    }
    return made
  }

  #conflictCondition(): string {
    const model = this.#model
    const table = this.getMainTableName()
    const alias = this.alias === table ? this.getTableName(table) : this.escape(this.alias)
    const tenant = (model?.map.predicate(this.state.requireContext()) ?? []).map(({ path, equals }) => {
      const column = model?.facts.find((fact) => fact.path === path)?.column.databaseName ?? path
      return `${alias}.${this.escape(column)} = ${this.createParameter(equals)}`
    })
    const keys = this.#upsert?.keys.map((key) => `${alias}.${this.escape(key)} = EXCLUDED.${this.escape(key)}`) ?? []
    return [...tenant, ...keys].join(' AND ')
  }

  /** An upsert that may meet rows of other tenants, or with other keys. */
  get #mustReturnAll(): boolean {
    const plan = this.#upsert
    return (
      plan !== undefined && plan.overwrite.length > 0 && (this.#model?.tenant !== undefined || plan.keys.length > 0)
    )
  }

  /** Rows may be missing in what comes back, for TypeORM to give to entities. */
  get #mayIgnore(): boolean {
    const { onIgnore, updateEntity, insertFromSelect } = this.expressionMap
    return Boolean(onIgnore) && updateEntity && insertFromSelect === undefined
  }

  #isEncrypted(column: ColumnMetadata): boolean {
    const sealed = this.state.installation.models().sealed(column)
    return sealed !== undefined && !isPlaintext(sealed)
  }

  get #model(): EntityModel | undefined {
    const alias = this.expressionMap.mainAlias
    return alias?.hasMetadata ? this.state.installation.models().of(alias.metadata) : undefined
  }

  #refuse(reason: string, hint: string): FieldsealError {
    const model = this.#model?.map.id
    return new FieldsealError('ERR_WRITE_UNSUPPORTED', { ...(model === undefined ? {} : { model }), reason, hint })
  }

  get #own(): OwnBuilder {
    return this as unknown as OwnBuilder // the same object; its protected members are named there
  }
}

function isMadeHere({ isGenerated, generationStrategy }: ColumnMetadata): boolean {
  return isGenerated && generationStrategy === 'uuid'
}

/** The value to seal; undefined where the database NULL is what is meant. */
function valueToSeal(sealed: SealedColumn, valueSet: ObjectLiteral): unknown {
  const { column, field } = sealed
  const value: unknown = column.getEntityValue(valueSet)
  if (isPlaintext(sealed)) return valueToIndex(field, value)
  assertValue(field, value)
  if (value !== undefined && value !== null) return value
  return field.encryptNull ? null : undefined
}

/** Tokens of a column, and the other column of its field. */
function besideOf(sealed: SealedColumn | undefined): ColumnMetadata[] {
  if (sealed === undefined) return []
  const { slots, twin } = sealed
  return [...(slots === undefined ? [] : [slots.odd, slots.even]), ...(twin === undefined ? [] : [twin])]
}
