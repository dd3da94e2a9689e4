import type { ModelTable } from './table.ts'

/** One parameter of a guarded update: an array with one element for each row. */
export interface RowArray {
  readonly name: string
  readonly type: string
}

/**
 * One statement that updates many rows, each only where it still is what was read. It locks what it is about to write and
 * skips what others have locked; `place` of the rows written comes back, counted from 1.
 *
 * The keys stand twice: as a set, so that the planner reads them through the index of the key, however small it takes the
 * table for; and row by row. What was locked is met again by its place on disk.
 *
 * @param arrays after the key columns of the table, which are text
 * @param unchanged conditions over `t` and `v`, the rows and the arrays
 * @param set assignments over `t` and `v`
 */
export function guardedUpdate(
  table: ModelTable,
  types: readonly string[],
  escape: (name: string) => string,
  {
    arrays,
    unchanged,
    set,
  }: { readonly arrays: readonly RowArray[]; readonly unchanged: readonly string[]; readonly set: readonly string[] },
): string {
  const all = [...table.keys.map((_, index) => ({ name: `k${index}`, type: 'text' })), ...arrays]
  const keys = table.keys.map(({ column }, index) => ({ name: `t.${escape(column.databaseName)}`, type: types[index] }))
  const isAmong = keys.map(({ name, type }, index) => `${name} = ANY($${index + 1}::text[]::${type}[])`)
  const isRow = keys.map(({ name, type }, index) => `${name} = v.k${index}::${type}`)
  const unnested = all.map(({ type }, index) => `$${index + 1}::${type}[]`).join(', ')
  const names = all.map(({ name }) => name).join(', ')
  return [
    `WITH r AS (SELECT * FROM unnest(${unnested}) WITH ORDINALITY AS v(${names}, place)),`,
    `l AS MATERIALIZED (SELECT v.*, t.ctid AS at FROM r v JOIN ${table.name} t ON ${[...isAmong, ...isRow, ...unchanged].join(' AND ')} FOR UPDATE OF t SKIP LOCKED)`,
    `UPDATE ${table.name} t SET ${set.join(', ')} FROM l v WHERE ${['t.ctid = v.at', ...isRow, ...unchanged].join(' AND ')} RETURNING v.place`,
  ].join(' ')
}
