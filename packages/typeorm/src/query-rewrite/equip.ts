import { InstanceChecker } from 'typeorm'
import { resolvedParameter } from '../carrier/resolve.ts'
import { Sealed } from '../carrier/sealed.ts'
import { assertFragment, assertTables } from '../guard/guard.ts'
import { marked, withoutMarks } from '../guard/marks.ts'
import type { Builders } from '../install/builders.ts'
import type { BuilderMembers, OwnBuilder } from '../install/typeorm-internals.ts'
import { isOwn } from './builder-state.ts'
import type { ConditionBuilder } from './condition-place.ts'
import { rewriteWhere } from './rewrite-where.ts'

type Kind = Exclude<keyof Builders, 'create'>

/**
 * Gives one of our builder classes what all of them share: conditions rewritten, fragments guarded, builders made from
 * it of our kind. A class's own methods stay.
 *
 * Not a base class: our builders must extend TypeORM's six, whose visibility no mixin's type can express.
 */
export function equip(builderClass: { readonly prototype: object }): void {
  const own = builderClass.prototype
  const base = Object.getPrototypeOf(own) as BuilderMembers // TypeORM's class of the same kind
  const shared = { ...conditions(base), ...statements(base), ...conversions(base) }
  for (const [name, value] of Object.entries(shared)) {
    if (!Object.hasOwn(own, name)) Object.defineProperty(own, name, { value, configurable: true, writable: true })
  }
}

/** A builder as `rewriteWhere` needs it. */
export function conditionBuilder(builder: OwnBuilder): ConditionBuilder {
  return {
    state: builder.state,
    namesAlias: builder.expressionMap.aliasNamePrefixingEnabled,
    escape: (name) => builder.escape(name),
    parameter: (value) => builder.createParameter(value),
  }
}

function conditions(base: BuilderMembers) {
  return {
    createQueryBuilder(this: OwnBuilder, ...args: Parameters<BuilderMembers['createQueryBuilder']>) {
      const inner = base.createQueryBuilder.apply(this, args) as OwnBuilder // it makes one of its own class
      inner.state = this.state.childState()
      return inner
    },
    getWhereCondition(this: OwnBuilder, where: unknown) {
      if (!InstanceChecker.isBrackets(where)) return base.getWhereCondition.call(this, where)
      return this.state.nesting(InstanceChecker.isNotBrackets(where), () => base.getWhereCondition.call(this, where))
    },
    getPredicates(this: OwnBuilder, where: Parameters<BuilderMembers['getPredicates']>[0]) {
      const alias = this.expressionMap.mainAlias
      const rewritten = alias?.hasMetadata ? rewriteWhere(conditionBuilder(this), alias.metadata, where, 'all') : where
      return base.getPredicates.call(this, rewritten)
    },
    getExistsCondition(this: OwnBuilder, subQuery: unknown) {
      const [sql, parameters] = base.getExistsCondition.call(this, subQuery)
      // One of our builders has guarded its own SQL; of anybody else's nothing is known.
      return [isOwn(subQuery) ? marked(withoutMarks(sql)) : sql, parameters]
    },
    createWhereExpression(this: OwnBuilder) {
      const sql = base.createWhereExpression.call(this)
      assertFragment(this, sql, 'where')
      return sql
    },
  }
}

function statements(base: BuilderMembers) {
  return {
    getQuery(this: OwnBuilder) {
      assertTables(this)
      return base.getQuery.call(this)
    },
    createCteExpression(this: OwnBuilder) {
      const sql = base.createCteExpression.call(this)
      assertFragment(this, sql, 'cte')
      return sql
    },
    getQueryAndParameters(this: OwnBuilder) {
      const [sql, parameters] = base.getQueryAndParameters.call(this)
      return [withoutMarks(sql), parameters]
    },
    /** Tokens that are known replace their carriers here, so that TypeORM keys its result cache by them. */
    getParameters(this: OwnBuilder) {
      const parameters = base.getParameters.call(this)
      for (const [name, value] of Object.entries(parameters)) {
        if (Sealed.isSealed(value)) parameters[name] = resolvedParameter(value) // TypeORM's is a copy
      }
      return parameters
    },
  }
}

function conversions(base: BuilderMembers) {
  const convert = (
    method: 'select' | 'insert' | 'update' | 'delete' | 'softDelete' | 'restore' | 'relation',
    kind: Kind,
  ) =>
    function (this: OwnBuilder, ...args: unknown[]) {
      const made: unknown = Reflect.apply(base[method], this, args)
      // TypeORM has changed our expression map and made a builder of its own from it: ours is made from it as well.
      return made === this ? this : this.state.installation.builders[kind](this as never)
    }
  return {
    select: convert('select', 'select'),
    insert: convert('insert', 'insert'),
    update: convert('update', 'update'),
    delete: convert('delete', 'delete'),
    softDelete: convert('softDelete', 'softDelete'),
    restore: convert('restore', 'softDelete'),
    relation: convert('relation', 'relation'),
  }
}
