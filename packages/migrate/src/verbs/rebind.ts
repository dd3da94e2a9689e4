import { type FieldPath, type RecordMap, rewrapRows } from '@fieldseal/core/adapter'
import type { RowVerb } from '../engine/batch.ts'
import type { Pace } from '../engine/pace.ts'
import { runJob } from '../engine/run-job.ts'
import type { Surroundings, What } from '../engine/target.ts'
import { assertKnown } from '../keys/key-versions.ts'
import type { Report } from '../report/report.ts'
import { whatOf } from './rewrap.ts'

export interface RebindOptions extends What, Pace {
  /**
   * The key columns that a row had before it was copied or renumbered, by stored path; undefined where they are the same.
   * Needed to open values that are bound to the old key. @defaultValue only what is bound to no row is bound
   */
  readonly formerKey?: (columns: Readonly<Record<FieldPath, unknown>>, map: RecordMap) => object | undefined
}

/**
 * Binds values to the rows where they stand now, after a table was copied or renumbered. That certifies the placement that
 * is found: whoever could write the table before decides what is where. Values and tokens are not touched.
 */
export async function rebind(surroundings: Surroundings, options: RebindOptions = {}): Promise<Report> {
  const { formerKey, tenant, model, field, keyspace, ...pace } = options
  await assertKnown(surroundings, { tenant, keyspace })
  const verb: RowVerb = {
    name: 'rebind',
    converges: true,
    work(rows, { context, map }) {
      const formerRowIds = rows.map(({ stored }) => {
        const former = formerKey?.(stored.columns, map)
        return former === undefined ? undefined : map.rowId({ ...stored.columns, ...former })
      })
      return rewrapRows(
        surroundings.fieldseal,
        rows.map(({ row }) => row),
        context,
        { bind: true, formerRowIds },
      )
    },
  }
  return runJob(surroundings, {
    verb,
    what: whatOf({ tenant, model, field, keyspace }),
    pace,
    pinned: [formerKey !== undefined],
    hint: 'give formerKey for rows whose key has changed',
  })
}
