import type { Fieldseal } from '@fieldseal/core/adapter'
import type { Surroundings } from '../engine/target.ts'
import type { Report } from '../report/report.ts'
import { emptyReport } from './empty-report.ts'
import { indexesOf, indexRecords, liveKeys, movesOf } from './moves.ts'
import { LONGEST_TRANSACTION_MS, type Run } from './run.ts'
import { unfit } from './unfit.ts'

export async function dryRun(
  surroundings: Surroundings,
  {
    options,
    targets,
    what,
    pace,
    startedAt,
  }: Pick<Run, 'options' | 'targets' | 'what' | 'pace'> & {
    readonly startedAt: number
  },
): Promise<Report> {
  const { newKey = false, longestTransactionMs = LONGEST_TRANSACTION_MS } = options
  const records = await indexRecords(surroundings, what.tenant)
  const before = await movesOf(surroundings, indexesOf(targets), records, [])
  const moves = await movesOf(surroundings, indexesOf(targets), records, newKey ? liveKeys(records, before) : [])
  const models = await unfit(surroundings, { targets, what, pace })
  const bound = (surroundings.fieldseal as Fieldseal<'multi'>).revocationBoundMs()
  const waitMs = 2 * bound.reachable + bound.unreachable + 3 * longestTransactionMs
  return {
    ...emptyReport(what),
    dryRun: true,
    elapsedMs: Math.round(performance.now() - startedAt),
    models,
    remaining: models.reduce((sum, one) => sum + one.remaining, 0),
    notes: [
      ...moves.map(({ index, owner, epochs: { stage, arrived } }) => {
        const does = stage !== 'settled' ? 'is moving' : arrived ? 'is as it should be' : 'would move'
        return `${index.model}.${index.id} of ${owner} ${does}`
      }),
      `it waits ${Math.ceil(waitMs / 60_000)} minutes in all until running processes have heard of its changes`,
    ],
  }
}
