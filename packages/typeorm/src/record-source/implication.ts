import { sqlStateOf, type ModelTable, type Query } from './table.ts'

/** The role may make no temporary table; the server takes no writes. */
const CANNOT_ASK: readonly string[] = ['42501', '25006']
/** Class 22: values that a column does not take; 42: what is not there, and no index that would do. */
const REFUSALS = /^(?:22|42)/

/**
 * Whether a condition on rows of a table implies another, as PostgreSQL proves it when it looks for the unique index of an
 * `ON CONFLICT`. Asked of an empty temporary table, in a transaction that is rolled back.
 *
 * @param columns of the index, quoted
 * @returns undefined where nothing can be asked
 */
export async function implies(
  query: Query,
  { name }: Pick<ModelTable, 'name'>,
  columns: readonly string[],
  condition: string,
  implied: string,
): Promise<boolean | undefined> {
  const probe = 'pg_temp."fieldseal probe"'
  const list = columns.join(', ')
  await query('BEGIN')
  try {
    await query(`CREATE TEMPORARY TABLE "fieldseal probe" (LIKE ${name})`)
    await query(`CREATE UNIQUE INDEX ON ${probe} (${list}) WHERE ${implied}`)
    await query(`EXPLAIN INSERT INTO ${probe} DEFAULT VALUES ON CONFLICT (${list}) WHERE ${condition} DO NOTHING`)
    return true
  } catch (error) {
    const state = sqlStateOf(error)
    if (CANNOT_ASK.includes(state)) return undefined
    if (REFUSALS.test(state)) return false
    throw error
  } finally {
    await query('ROLLBACK')
  }
}
