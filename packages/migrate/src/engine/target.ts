import type { KeyObject } from 'node:crypto'
import {
  type AdapterHost,
  type BlindIndex,
  type Cell,
  type Field,
  FieldsealError,
  type Fieldseal,
  type OperationContext,
  type RecordMap,
  type RecordSource,
  type Row,
  type StoredRow,
} from '@fieldseal/core/adapter'
import type { Policy } from '../policy.ts'

/** Which rows a verb is about. */
export interface What {
  readonly tenant?: string
  readonly model?: string
  /** Path or id of one field; to `reindex` also the id of an index over several. */
  readonly field?: string
  readonly keyspace?: string
}

/** One model of one source, as far as a verb is about it. */
export interface Target {
  readonly source: RecordSource
  /** Place of the source in the configuration. */
  readonly sourceAt: number
  readonly map: RecordMap
  readonly context: OperationContext
  readonly what: What
}

/** A stored row of a target; `stored` is what the source needs to find it again. */
export interface TargetRow {
  readonly stored: StoredRow
  readonly row: Row<unknown>
}

/** Everything that verbs share. */
export interface Surroundings {
  readonly fieldseal: Fieldseal<never> | Fieldseal
  readonly sources: readonly RecordSource[]
  readonly host: AdapterHost
  readonly policy: Required<Policy>
  readonly signingKey: KeyObject | undefined
}

/** The models that `what` names, each with the context to work in. @throws FieldsealError ERR_ARGUMENT_INVALID when it names none */
export function targetsOf({ fieldseal, sources, host }: Surroundings, verb: string, what: What): readonly Target[] {
  const tenants = fieldseal as Fieldseal<'multi'> // in tenancy `single` no tenant is given below
  const system = tenants.runAsSystem({ reason: `fieldseal ${verb}` }, () => host.capture())
  const targets: Target[] = []
  const taken = new Set<RecordMap>() // a source that is given twice has each row once
  for (const [sourceAt, source] of sources.entries())
    for (const map of source.models) {
      if (taken.has(map) || (what.model !== undefined && map.id !== what.model)) continue
      taken.add(map)
      const named = what.field === undefined ? undefined : fieldsOf(map, what.field)
      if (named?.length === 0 || (named !== undefined && named.length > 1 && !verb.startsWith('reindex'))) continue
      const context = host.tenancy === 'multi' && map.tenantPath === undefined ? contextOf(map) : system
      targets.push({ source, sourceAt, map, context, what })
    }
  if (targets.length > 0) return targets
  const known = sources.flatMap(({ models }) => models.map(({ id }) => id))
  throw new FieldsealError('ERR_ARGUMENT_INVALID', {
    field: what.model === undefined ? (what.field === undefined ? 'sources' : 'field') : 'model',
    reason: `no such model or field; the sources have ${known.length === 0 ? 'none' : known.join(', ')}`,
    hint:
      known.length === 0
        ? 'connect them first (open: () => dataSource.initialize()), and annotate what they hold'
        : 'check the spelling, and that the source is configured',
  })

  /** A database or schema per tenant: nothing in it says whose it is. */
  function contextOf(map: RecordMap): OperationContext {
    if (what.tenant === undefined)
      throw new FieldsealError('ERR_ARGUMENT_INVALID', {
        model: map.id,
        field: 'tenant',
        reason: "tenantBy is 'none': its rows do not say whose they are",
        hint: 'name the tenant',
      })
    return tenants.runAs({ tenant: what.tenant }, () => host.capture())
  }
}

export function fieldOf(map: RecordMap, name: string) {
  return map.fields.find(({ path, id }) => path === name || id === name)
}

/** The fields that a name means: one, those of an index over several, or none. */
export function fieldsOf(map: RecordMap, name: string): readonly Field[] {
  const field = fieldOf(map, name)
  return field === undefined ? (compoundOf(map, name)?.fields ?? []) : [field]
}

export function compoundOf(map: RecordMap, name: string): BlindIndex | undefined {
  return map.indexes.find(({ id, fields }) => id === name && fields.length > 1)
}

/** The row with its facts; undefined when the verb is not about it. @throws FieldsealError when tenant or keyspace cannot be told */
export function rowOf({ map, context, what }: Target, stored: StoredRow): Row<unknown> | undefined {
  const facts = map.facts(stored.columns, context)
  if (what.tenant !== undefined && map.tenantPath !== undefined && facts.tenant !== what.tenant) return undefined
  if (what.keyspace !== undefined && facts.keyspace !== what.keyspace) return undefined
  const fields = what.field === undefined ? undefined : fieldsOf(map, what.field)
  const cells = cellsOf(map, stored)
  return { map, facts, cells: fields === undefined ? cells : cells.filter(({ field }) => fields.includes(field)) }
}

/** Stored tokens of the indexes that the job is about: those of others would seem to be left without their values. */
export function tokensOf({ map, what }: Target, { tokens }: StoredRow): StoredRow['tokens'] {
  if (what.field === undefined || tokens === undefined) return tokens
  const chosen = fieldsOf(map, what.field)
  return new Map([...tokens].filter(([index]) => index.fields.every((field) => chosen.includes(field))))
}

function cellsOf(map: RecordMap, { cells, occurrences }: StoredRow): readonly Cell<unknown>[] {
  if (occurrences !== undefined) return occurrences
  return map.fields.flatMap((field) => {
    const value = cells[field.path]
    return value === undefined ? [] : [{ field, value }]
  })
}

/** How a row is named in a report: its key columns; never a value. */
export function keyText({ map }: Target, { columns, key }: StoredRow): string {
  const known = map.rowKey.map(({ path }) => columns[path]).filter((value) => value !== undefined)
  return (known.length > 0 ? known.map(String).join(',') : String(key)).slice(0, 200)
}
