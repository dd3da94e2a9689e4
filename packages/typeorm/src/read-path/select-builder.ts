import {
  SelectQueryBuilder,
  type DataSource,
  type EntityMetadata,
  type FindOptionsWhere,
  type ObjectLiteral,
  type QueryBuilder,
  type QueryRunner,
} from 'typeorm'
import type { SelectQuery } from 'typeorm/query-builder/SelectQuery.js'
import { resolveTerms } from '../carrier/resolve.ts'
import { assertSelect, selectsEncrypted } from '../guard/guard-select.ts'
import { marked, withoutMarks } from '../guard/marks.ts'
import { viaOf } from '../install/installation.ts'
import type { OwnBuilder } from '../install/typeorm-internals.ts'
import { stateFrom, type BuilderState } from '../query-rewrite/builder-state.ts'
import { conditionBuilder, equip } from '../query-rewrite/equip.ts'
import { rewriteWhere } from '../query-rewrite/rewrite-where.ts'
import { openRows, type RawRow } from './open-rows.ts'
import { hiddenKeys, neededSelections } from './needed-selections.ts'
import { rowSourcesOf } from './row-sources.ts'
import { assertTruncatedAnswerable, hasTruncated, refuseTruncated } from './truncated.ts'

/** Reads: rewrites conditions, guards fragments, opens rows before TypeORM builds entities from them. */
export class FieldsealSelectQueryBuilder<E extends ObjectLiteral> extends SelectQueryBuilder<E> {
  static {
    equip(this)
  }
  state: BuilderState

  constructor(source: DataSource | QueryBuilder<ObjectLiteral>, runner?: QueryRunner) {
    super(source as DataSource, runner) // TypeORM takes either
    this.state = stateFrom(source, this.dataSource)
  }

  override getQuery(): string {
    assertSelect(this.#own)
    if (this.state.hydrating === 0 && hasTruncated(this.state)) throw refuseTruncated(this.state)
    const sql = super.getQuery()
    // Guarded here, so that the query it becomes a part of need not know its aliases.
    return this.expressionMap.subQuery && !selectsEncrypted(this.#own) ? marked(withoutMarks(sql)) : sql
  }

  override async getOne(): Promise<E | null> {
    // The one row that the database would return may be the false hit.
    if (hasTruncated(this.state) && this.expressionMap.take === 1) Reflect.deleteProperty(this.expressionMap, 'take')
    return super.getOne()
  }

  override async stream() {
    this.#assertContext()
    const { installation } = this.state
    await resolveTerms(
      installation,
      Object.values(this.expressionMap.parameters),
      viaOf(installation, this.queryRunner),
    )
    return super.stream()
  }

  protected override buildWhere(
    where: FindOptionsWhere<E>[] | FindOptionsWhere<E>,
    metadata: EntityMetadata,
    alias: string,
    embedPrefix?: string,
  ): string {
    if (!Array.isArray(where)) {
      const rewritten = rewriteWhere(conditionBuilder(this.#own), metadata, where, 'level', embedPrefix)
      return super.buildWhere(rewritten, metadata, alias, embedPrefix)
    }
    const alternatives = where.length > 1 ? 1 : 0
    this.state.alternatives += alternatives
    try {
      return super.buildWhere(where, metadata, alias, embedPrefix)
    } finally {
      this.state.alternatives -= alternatives
    }
  }

  protected override buildEscapedEntityColumnSelects(alias: string, metadata: EntityMetadata): SelectQuery[] {
    const selects = super.buildEscapedEntityColumnSelects(alias, metadata)
    const model = this.state.hydrating > 0 ? this.state.installation.models().of(metadata) : undefined
    return model === undefined ? selects : [...selects, ...neededSelections(this.#own, alias, model, selects)]
  }

  protected override async executeEntitiesAndRawResults(
    runner: QueryRunner,
  ): Promise<{ entities: E[]; raw: unknown[] }> {
    const { state } = this
    if (!this.#touchesModels) return super.executeEntitiesAndRawResults(runner)
    this.#assertContext()
    assertSelect(this.#own) // before the query for ids of a page, which is not rendered here
    assertTruncatedAnswerable(this.#own)
    await this.#resolveTerms(runner)
    state.hydrating++
    try {
      return await state.installation.host.run(state.context, () => super.executeEntitiesAndRawResults(runner))
    } finally {
      // Raw rows are handed out beside the entities: raw means ciphertext.
      if (--state.hydrating === 0) for (const opened of state.opened.splice(0)) opened.restore()
    }
  }

  protected override async executeCountQuery(runner: QueryRunner): Promise<number> {
    const { findOptions } = this
    // Counting distinct rows by key needs no other columns, and ciphertext is always distinct.
    if (findOptions.select !== undefined && this.#touchesModels && this.#selectsKeys()) {
      const { select: _, ...rest } = findOptions
      this.findOptions = rest
    }
    try {
      return await super.executeCountQuery(runner)
    } finally {
      this.findOptions = findOptions
    }
  }

  protected override async executeExistsQuery(runner: QueryRunner): Promise<boolean> {
    this.#assertContext()
    await this.#resolveTerms(runner)
    return super.executeExistsQuery(runner)
  }

  protected override async loadRawResults(runner: QueryRunner): Promise<RawRow[]> {
    const { state } = this
    this.#assertContext()
    await this.#resolveTerms(runner)
    const rows = (await super.loadRawResults(runner)) as RawRow[]
    const [sample] = rows
    if (state.hydrating === 0 || sample === undefined) return rows
    const sources = rowSourcesOf(this.#own, sample)
    if (sources.length === 0) return rows
    const opened = await openRows(state.installation, rows, sources, state.requireContext(), runner)
    state.opened.push(opened)
    for (const key of hiddenKeys(this.#own)) for (const row of opened.rows) Reflect.deleteProperty(row, key)
    return opened.rows
  }

  /** Tokens are known before TypeORM computes the key of its result cache, and before it takes a connection. */
  async #resolveTerms(runner: QueryRunner): Promise<void> {
    const { installation } = this.state
    await resolveTerms(installation, Object.values(this.expressionMap.parameters), viaOf(installation, runner))
  }

  #assertContext(): void {
    if (this.#touchesModels) this.state.requireContext()
  }

  #selectsKeys(): boolean {
    const alias = this.expressionMap.mainAlias
    const selected = new Set(this.expressionMap.selects.map(({ selection }) => selection))
    return (
      alias?.hasMetadata === true &&
      alias.metadata.primaryColumns.every((column) => selected.has(`${alias.name}.${column.propertyPath}`))
    )
  }

  get #touchesModels(): boolean {
    const registry = this.state.installation.models()
    return this.expressionMap.aliases.some((alias) => alias.hasMetadata && registry.of(alias.metadata) !== undefined)
  }

  get #own(): OwnBuilder {
    return this as unknown as OwnBuilder // the same object; its protected members are named there
  }
}
