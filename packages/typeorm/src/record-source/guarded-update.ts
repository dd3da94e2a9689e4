import { FieldsealError, type Converted, type PatchedCell, type RowPatch } from '@fieldseal/core/adapter'
import { formsOf, isAsRead, type Form, type Forms, type Place } from './place.ts'
import { keyArrays, versionOf } from './row-key.ts'
import type { ModelTable, Query } from './table.ts'

export interface UpdateDeps {
  readonly query: Query
  /** SQL types of the key columns. */
  readonly keyTypes: readonly string[]
  readonly escape: (name: string) => string
  /** No place is part of a unique index: rows that others refer to by a foreign key are not theirs to lock. @defaultValue false */
  readonly keepsKeys?: boolean
  /**
   * Writes no row that is no longer the version that a page read: it may have become another tenant's, who could not open
   * what is sealed here. @defaultValue false: it is enough that its places hold the same
   */
  readonly onlyAsRead?: boolean
  /** Whether an error refuses a row as it would be. @defaultValue none: they are thrown */
  readonly isRefusal?: (error: unknown) => boolean
}

type Patches = readonly RowPatch<PatchedCell>[]

/**
 * Writes all places of a row or none, each row only where its places still hold what they held; says which were written.
 * One statement for all rows that are still the version that a page read, and another for those that are not, or of which
 * nobody knows: these are compared place by place. Rows that somebody has locked are skipped.
 *
 * A row that is refused fails its statement: then each row of it gets a statement of its own, and it alone is refused.
 */
export async function updateRows(
  table: ModelTable,
  places: readonly Place[],
  patches: Patches,
  deps: UpdateDeps,
): Promise<readonly Converted[]> {
  const outcomes = patches.map((): Converted => 'changed')
  const forms = formsOf(places, patches)
  async function run(rows: readonly number[], guard: Guard): Promise<void> {
    if (rows.length === 0) return
    const { sql, parameters } = statementOf(table, forms, patches, rows, guard, deps)
    try {
      for (const { place } of await deps.query(sql, parameters)) outcomes[rows[Number(place) - 1] ?? -1] = 'updated'
    } catch (error) {
      if (String(error).includes(ALTERED))
        throw new FieldsealError('ERR_CONFIG_INVALID', {
          model: table.map.id,
          reason: `a trigger of ${table.name} stores other values than it is given: nothing was written`,
          hint: 'fieldseal doctor names it; it must leave encrypted columns and their tokens alone',
        })
      if (deps.isRefusal?.(error) !== true) throw error
      const [row = -1, ...others] = rows
      if (others.length === 0) outcomes[row] = 'refused'
      else for (const one of rows) await run([one], guard)
    }
  }
  const all = [...patches.keys()]
  const asRead = all.filter((row) => {
    const version = versionOf(patches[row]?.key)
    return version !== undefined && isAsRead(forms, row, version)
  })
  await run(asRead, isSameVersion)
  if (deps.onlyAsRead === true) return outcomes
  await run(
    all.filter((row) => outcomes[row] === 'changed'),
    holdsTheSame,
  )
  return outcomes
}

/** A parameter of a statement: an array with one element for each row. */
interface RowArray {
  /** SQL of the array. */
  readonly all: string
  /** SQL of its element for a row. */
  readonly own: string
}

type AddArray = (type: string, values: readonly unknown[]) => RowArray

interface Guarded {
  readonly forms: readonly Forms[]
  readonly patches: Patches
  readonly rows: readonly number[]
  readonly keys: readonly { readonly column: string; readonly type: string; readonly array: RowArray }[]
  readonly add: AddArray
}

/**
 * Conditions for rows to be what they were, over `t` and `v`. Where rows are found is said twice, as a set as well: so the
 * planner looks there for them, however small it takes the table for.
 */
type Guard = (statement: Guarded) => readonly string[]

const isSameVersion: Guard = ({ patches, rows, add }) => {
  const versions = rows.map((row) => versionOf(patches[row]?.key))
  const at = versions.map((version) => version?.place)
  const place = add('tid', at)
  const writer = add(
    'text',
    versions.map((version) => version?.writer),
  )
  return [`t.ctid = ANY(${place.all})`, `t.ctid = ${place.own}`, `t.xmin = ${writer.own}::xid`]
}

const holdsTheSame: Guard = ({ forms, rows, keys, add }) => [
  ...keys.map(({ column, type, array }) => `${column} = ANY(${array.all}::${type}[])`),
  ...forms.flatMap(({ place: { name, type }, before }) => {
    const given = rows.map((row) => before[row])
    if (given.every((form) => form === undefined)) return []
    const old = add(type, given.map(orNull))
    const isSame = `t.${name} IS NOT DISTINCT FROM ${old.own}`
    if (!given.includes(undefined)) return isSame
    return `(NOT ${add('boolean', given.map(isGiven)).own} OR ${isSame})`
  }),
]

/** What an error quotes that undoes a statement: a row is not as it was written. */
const ALTERED = 'fieldseal: altered'

/** Names of its steps. A space keeps them apart from names of tables. */
const GIVEN = '"rows given"'
const LOCKED = '"rows locked"'

/**
 * It locks what it is about to write, skips what others have locked, and meets it again by its place on disk. Where a
 * trigger has altered what was written, the statement fails: an altered envelope would never open again.
 */
function statementOf(
  table: ModelTable,
  forms: readonly Forms[],
  patches: Patches,
  rows: readonly number[],
  guard: Guard,
  { keyTypes, escape, keepsKeys = false }: UpdateDeps,
): { readonly sql: string; readonly parameters: readonly unknown[] } {
  const types: string[] = []
  const parameters: unknown[] = []
  const add: AddArray = (type, values) => {
    types.push(type)
    const nth = parameters.push(arrayOf(values))
    return { all: `$${nth}::${type}[]`, own: `v.p${nth}` }
  }
  const ofRows = rows.map((row) => patches[row]?.key)
  const keys = keyArrays(table, ofRows).map((values, i) => ({
    column: `t.${escape(table.keys[i]?.column.databaseName ?? '')}`,
    type: keyTypes[i] ?? 'text',
    array: add('text', values),
  }))
  const isRow = keys.map(({ column, type, array }) => `${column} = ${array.own}::${type}`)
  const isUnchanged = guard({ forms, patches, rows, keys, add })
  const set = forms.flatMap((form) => assignmentOf(form, rows, add))
  const asWritten = set.flatMap(({ isStored }) => isStored ?? [])
  const names = types.map((_, i) => `p${i + 1}`)
  const arrays = types.map((type, i) => `$${i + 1}::${type}[]`)
  const sql = [
    `WITH ${GIVEN} AS (SELECT * FROM unnest(${arrays.join(', ')}) WITH ORDINALITY AS v(${names.join(', ')}, place)),`,
    `${LOCKED} AS MATERIALIZED (SELECT v.*, t.ctid AS at FROM ${GIVEN} v JOIN ${table.name} t ON ${[...isRow, ...isUnchanged].join(' AND ')} FOR ${keepsKeys ? 'NO KEY ' : ''}UPDATE OF t SKIP LOCKED)`,
    `UPDATE ${table.name} t SET ${set.map(({ sql: one }) => one).join(', ')} FROM ${LOCKED} v WHERE ${['t.ctid = v.at', ...isRow].join(' AND ')}`,
    `RETURNING v.place, (CASE WHEN ${['TRUE', ...asWritten].join(' AND ')} THEN '1' ELSE '${ALTERED}' END)::int`,
  ].join(' ')
  return { sql, parameters }
}

/** Envelopes in text form, and most ids: texts that an array literal takes unquoted. */
const UNQUOTED = /^(?!null$)[\w.-]+$/i

/** The array as a literal where its elements need no quotes: the driver would search each of them for what does. */
function arrayOf(values: readonly unknown[]): unknown {
  return values.every(isUnquoted) ? `{${values.map((value) => value ?? 'NULL').join(',')}}` : values
}

function isUnquoted(value: unknown): value is string | null {
  return value === null || (typeof value === 'string' && UNQUOTED.test(value))
}

interface Assignment {
  readonly sql: string
  /** True in SQL where the column holds what was written; undefined where the database may spell it otherwise. */
  readonly isStored: string | undefined
}

function assignmentOf({ place, after }: Forms, rows: readonly number[], add: AddArray): readonly Assignment[] {
  const { name, type, cast } = place
  const given = rows.map((row) => after[row])
  if (given.every((form) => form === undefined)) return []
  const { own } = add(type, given.map(orNull))
  const fresh = cast === undefined ? own : cast(own)
  const same = `${type === 'text' ? `t.${name}::text COLLATE "C"` : `t.${name}`} IS NOT DISTINCT FROM ${own}`
  const isStored = cast === undefined ? same : undefined
  if (!given.includes(undefined)) return [{ sql: `${name} = ${fresh}`, isStored }]
  const isWritten = add('boolean', given.map(isGiven)).own
  return [
    {
      sql: `${name} = CASE WHEN ${isWritten} THEN ${fresh} ELSE t.${name} END`,
      isStored: isStored && `(NOT ${isWritten} OR ${isStored})`,
    },
  ]
}

function orNull(form: Form | undefined): Form {
  return form ?? null
}

function isGiven(form: Form | undefined): boolean {
  return form !== undefined
}
