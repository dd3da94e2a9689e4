import { FieldsealError, type OperationContext, type RowFacts, type TokenSlot } from '@fieldseal/core/adapter'
import {
  UpdateQueryBuilder,
  type Brackets,
  type DataSource,
  type ObjectLiteral,
  type QueryBuilder,
  type QueryRunner,
  type UpdateResult,
} from 'typeorm'
import type { ColumnMetadata } from 'typeorm/metadata/ColumnMetadata.js'
import { resolveTerms } from '../carrier/resolve.ts'
import { Sealed } from '../carrier/sealed.ts'
import { WrittenRow } from '../carrier/written-row.ts'
import {
  isPlaintext,
  needsKeys,
  tokenSlotsOf,
  type CompoundIndex,
  type EntityModel,
  type FactColumn,
  type SealedColumn,
  type TokenSlots,
} from '../entity-map/entity-model.ts'
import { assertFragment } from '../guard/guard.ts'
import { viaOf } from '../install/installation.ts'
import type { OwnBuilder } from '../install/typeorm-internals.ts'
import { stateFrom, type BuilderState } from '../query-rewrite/builder-state.ts'
import { equip } from '../query-rewrite/equip.ts'
import { refusedTwin } from '../query-rewrite/rewrite-where.ts'
import { returnedColumns } from '../read-path/returning.ts'
import { assertValue, valueToIndex } from './comparable.ts'
import { Criteria, equalitiesOf, equalitiesOfIds } from './criteria.ts'
import { lockComponents, missingComponents, refusePartial, type StoredValues } from './stored-components.ts'
import { restrictToTenant } from './tenant-predicate.ts'
import { runReturning, undoable, withRunner } from './undoable.ts'
import { withValue } from './with-value.ts'

type Where = string | ((builder: never) => string) | Brackets | ObjectLiteral | ObjectLiteral[]

/** Updates: bound to the row when the criteria pin its whole key, otherwise to column and keyspace alone. */
export class FieldsealUpdateQueryBuilder<E extends ObjectLiteral> extends UpdateQueryBuilder<E> {
  static {
    equip(this)
  }
  state: BuilderState
  #criteria = new Criteria()
  #stored: StoredValues = new Map()
  /** The tenant has no such row: if one comes meanwhile, its tokens are not those of this statement. */
  #isGone = false

  constructor(source: DataSource | QueryBuilder<ObjectLiteral>, runner?: QueryRunner) {
    super(source as DataSource, runner) // TypeORM takes either
    this.state = stateFrom(source, this.dataSource)
    if (source instanceof FieldsealUpdateQueryBuilder) this.#criteria = source.#criteria.clone()
  }

  override where(where: Where, parameters?: ObjectLiteral): this {
    this.#criteria.reset(equalitiesOf(this.#model, where))
    return super.where(where as string, parameters) // one of TypeORM's overloads; they differ in types only
  }

  override andWhere(where: Where, parameters?: ObjectLiteral): this {
    this.#criteria.and(equalitiesOf(this.#model, where))
    return super.andWhere(where as string, parameters)
  }

  override orWhere(where: Where, parameters?: ObjectLiteral): this {
    this.#criteria.or(equalitiesOf(this.#model, where))
    return super.orWhere(where as string, parameters)
  }

  override whereInIds(ids: unknown): this {
    return this.#refined(super.whereInIds(ids), ids)
  }

  override andWhereInIds(ids: unknown): this {
    return this.#refined(super.andWhereInIds(ids), ids)
  }

  override orWhereInIds(ids: unknown): this {
    return this.#refined(super.orWhereInIds(ids), ids)
  }

  override whereEntity(entity: E | E[]): this {
    this.#criteria = new Criteria() // TypeORM empties its clauses as well, and adds one for each entity
    return super.whereEntity(entity)
  }

  override async execute(): Promise<UpdateResult> {
    const model = this.#model
    if (model === undefined) return super.execute()
    const { installation } = this.state
    const context = this.state.requireContext()
    const via = viaOf(installation, this.queryRunner)
    if (this.#writesEncrypted(model)) {
      const facts = this.#rowFacts(model, context)
      await installation.host.load([model.map], context, { via, keyspaces: [facts.keyspace] })
    }
    await resolveTerms(installation, Object.values(this.expressionMap.parameters), via)
    const missing = missingComponents(model, super.getValueSet())
    return missing.length === 0 ? this.#run(model) : this.#runLocked(model, missing, context)
  }

  #run(model: EntityModel): Promise<UpdateResult> {
    return runReturning(this.#own, model, () => super.execute())
  }

  /** Reads what the update does not write, and writes before anybody else can. */
  async #runLocked(
    model: EntityModel,
    columns: readonly SealedColumn[],
    context: OperationContext,
  ): Promise<UpdateResult> {
    const key = this.#certain()
    if (!model.keys.every(({ path }) => key.has(path))) throw refusePartial(model, columns)
    const { installation } = this.state
    const { tenant } = this.#rowFacts(model, context)
    const run = async (runner: QueryRunner) => {
      const stored = await lockComponents(installation, runner, model, { columns, key, context, tenant })
      this.#stored = stored ?? new Map(columns.map((column) => [column, null]))
      this.#isGone = stored === undefined
      return this.#run(model)
    }
    try {
      return await withRunner(this.#own, (runner) =>
        runner.isTransactionActive ? run(runner) : undoable(runner, () => run(runner)),
      )
    } finally {
      this.#stored = new Map()
      if (this.#isGone) this.expressionMap.extraAppendedAndWhereCondition = '' // the builder may run again
      this.#isGone = false
    }
  }

  protected override createUpdateExpression(): string {
    const model = this.#model
    if (model !== undefined) {
      const context = this.state.requireContext()
      const tenant = typeof context.tenant === 'string' ? undefined : this.#atHand(model)?.tenant
      restrictToTenant(this.#own, model, context, tenant)
      if (this.#isGone) this.expressionMap.extraAppendedAndWhereCondition = '1=0'
    }
    return super.createUpdateExpression()
  }

  protected override getReturningColumns(): ColumnMetadata[] {
    const columns = super.getReturningColumns()
    return this.#model === undefined ? columns : returnedColumns(this.#model, columns)
  }

  /** The values to set, with a carrier for each encrypted one and for its tokens. */
  protected override getValueSet(): ObjectLiteral {
    const given = super.getValueSet()
    const model = this.#model
    if (model === undefined) return this.#guarded(given)
    const context = this.state.requireContext()
    this.#assertFactsKept(model, given, context)
    assertNoTokens(model, given)
    let set = given
    let row: WrittenRow | undefined
    for (const sealed of model.columns) {
      const { column, field, slots, twin } = sealed
      if (isGiven(twin?.getEntityValue(given))) throw refusedTwin(sealed, 'ERR_WRITE_UNSUPPORTED')
      const current: unknown = column.getEntityValue(given)
      if (current === undefined) continue
      const plaintext = isPlaintext(sealed)
      if (!plaintext) assertValue(field, current)
      const value = plaintext ? valueToIndex(field, current) : current
      const seals = plaintext ? slots !== undefined && isGiven(value) : value !== null || field.encryptNull
      row ??= seals ? new WrittenRow(model.map, this.#rowFacts(model, context), context) : undefined
      const cell = seals ? row?.add(sealed, value) : undefined
      if (twin !== undefined) set = withValue(set, twin, null)
      if (!plaintext)
        set = withValue(set, column, row && cell !== undefined ? new Sealed({ kind: 'value', row, cell }) : null)
      if (slots !== undefined) set = withTokens(set, slots, cell === undefined ? undefined : row)
    }
    for (const compound of model.compounds) {
      const values = compound.columns.map(({ column }): unknown => column.getEntityValue(given))
      if (values.every((value) => value === undefined)) continue
      set = withTokens(set, compound, this.#rowOfTokens(model, compound, values, row))
    }
    return this.#guarded(set)
  }

  /** The row with all values that the tokens of a compound index are computed of; undefined where one of them is null. */
  #rowOfTokens(
    model: EntityModel,
    { columns }: CompoundIndex,
    written: readonly unknown[],
    row: WrittenRow | undefined,
  ): WrittenRow | undefined {
    if (written.includes(null)) return undefined
    const missing = columns.filter((_, at) => written[at] === undefined)
    if (!missing.every((column) => this.#stored.has(column))) throw refusePartial(model, missing)
    if (missing.some((column) => this.#stored.get(column) === null)) return undefined
    for (const column of missing) row?.know(column, this.#stored.get(column))
    return row
  }

  /** SQL expressions for plain columns may still read encrypted ones. */
  #guarded(set: ObjectLiteral): ObjectLiteral {
    for (const value of Object.values(set)) {
      if (typeof value === 'function') assertFragment(this.#own, String(value()), 'set')
    }
    return set
  }

  /** A key, tenant or keyspace that changes would leave the row's other values under the old one. */
  #assertFactsKept(model: EntityModel, set: ObjectLiteral, { tenant }: OperationContext): void {
    const known = this.#certain()
    for (const fact of model.facts) {
      const value: unknown = fact.column.getEntityValue(set)
      if (value === undefined || value === known.get(fact.path)) continue
      if (fact === model.tenant && isText(value, tenant)) continue // the predicate says the same
      throw new FieldsealError('ERR_WRITE_UNSUPPORTED', {
        model: model.map.id,
        field: fact.path,
        operation: 'update',
        reason: reasonOf(model, fact),
        hint: 'the values of a row are bound to it: save the values as a new row and remove the old one',
      })
    }
  }

  /** @throws FieldsealError ERR_WRITE_UNSUPPORTED when tenant or keyspace of the rows to meet is not known */
  #rowFacts(model: EntityModel, context: OperationContext): RowFacts {
    const atHand = this.#atHand(model)
    if (atHand !== undefined) return atHand
    const known: Record<string, unknown> = Object.fromEntries(this.#certain())
    for (const { path, equals } of model.map.predicate(context)) known[path] ??= equals
    return model.map.facts(known, context)
  }

  /** What the `save` that runs this update has read or written of the row. */
  #atHand(model: EntityModel): RowFacts | undefined {
    const rows = this.queryRunner && this.state.installation.rowsAtHand.get(this.queryRunner)
    return rows?.find(model.map, model.map.rowId(Object.fromEntries(this.#certain())))
  }

  #certain(): ReadonlyMap<string, unknown> {
    return this.#criteria.certain(this.expressionMap.wheres.length)
  }

  #writesEncrypted(model: EntityModel): boolean {
    const set = super.getValueSet()
    return model.columns.some((sealed) => needsKeys(sealed) && sealed.column.getEntityValue(set) !== undefined)
  }

  #refined(builder: this, ids: unknown): this {
    const alias = this.expressionMap.mainAlias
    const equalities = equalitiesOfIds(this.#model, alias?.hasMetadata ? alias.metadata : undefined, ids)
    if (equalities.size > 0) this.#criteria.refine(equalities)
    return builder
  }

  get #model(): EntityModel | undefined {
    const alias = this.expressionMap.mainAlias
    return alias?.hasMetadata ? this.state.installation.models().of(alias.metadata) : undefined
  }

  get #own(): OwnBuilder {
    return this as unknown as OwnBuilder // the same object; its protected members are named there
  }
}

/** @throws FieldsealError ERR_WRITE_UNSUPPORTED for a token column: a row without its token is not found */
function assertNoTokens(model: EntityModel, set: ObjectLiteral): void {
  const named = tokenSlotsOf(model).find(({ odd, even }) =>
    [odd, even].some((slot) => slot.getEntityValue(set) !== undefined),
  )
  if (named === undefined) return
  throw new FieldsealError('ERR_WRITE_UNSUPPORTED', {
    model: model.map.id,
    field: named.index.id,
    operation: 'update',
    reason: 'token-column',
    hint: 'tokens are written with their values: write these',
  })
}

/** A carrier for each slot of an index; null where no row says what its tokens are made of. */
function withTokens(set: ObjectLiteral, slots: TokenSlots, row: WrittenRow | undefined): ObjectLiteral {
  const carrier = (slot: TokenSlot) => row && new Sealed({ kind: 'token', row, index: slots.index, slot })
  return withValue(withValue(set, slots.odd, carrier('odd') ?? null), slots.even, carrier('even') ?? null)
}

function isGiven(value: unknown): boolean {
  return value !== undefined && value !== null
}

/** A tenant column may be a number. */
function isText(value: unknown, text: unknown): boolean {
  return value === text || (typeof value === 'number' && String(value) === text)
}

function reasonOf(model: EntityModel, fact: FactColumn): string {
  if (fact === model.tenant) return 'tenant-change'
  return fact === model.keyspace ? 'keyspace-change' : 'key-change'
}
