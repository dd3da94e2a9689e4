import { verifyRows } from '@fieldseal/core/adapter'
import type { RowVerb } from '../engine/batch.ts'
import type { Pace } from '../engine/pace.ts'
import { runJob } from '../engine/run-job.ts'
import { type Surroundings, tokensOf, type What } from '../engine/target.ts'
import { assertKnown } from '../keys/key-versions.ts'
import type { Report } from '../report/report.ts'
import { whatOf } from './rewrap.ts'

/** Opens every value and computes every token anew. Writes nothing but its checkpoint. */
export async function verify(surroundings: Surroundings, options: What & Pace = {}): Promise<Report> {
  const { tenant, model, field, keyspace, ...pace } = options
  await assertKnown(surroundings, { tenant, keyspace })
  const verb: RowVerb = {
    name: 'verify',
    tokens: true,
    converges: false,
    async work(rows, target) {
      const verified = await verifyRows(
        surroundings.fieldseal,
        rows.map(({ row, stored }) => ({ row, tokens: tokensOf(target, stored) })),
        target.context,
      )
      return verified.map(({ problems, ...counts }) => ({ problems, counts }))
    },
  }
  return runJob(surroundings, {
    verb,
    what: whatOf({ tenant, model, field, keyspace }),
    pace,
    pinned: [],
    hint: 'see the failures in the report',
  })
}
