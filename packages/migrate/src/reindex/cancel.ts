import { changeIndex, FieldsealError } from '@fieldseal/core/adapter'
import type { Surroundings, Target, What } from '../engine/target.ts'
import type { Report } from '../report/report.ts'
import { emptyReport } from './empty-report.ts'
import { indexesOf, indexRecords, movesOf } from './moves.ts'

/** Leaves the new epoch while look-ups still ask the old one. Its tokens stay until the next reindex clears them. */
export async function cancel(
  surroundings: Surroundings,
  targets: readonly Target[],
  what: What,
  startedAt: number,
): Promise<Report> {
  const records = await indexRecords(surroundings, what.tenant)
  const moves = await movesOf(surroundings, indexesOf(targets), records, [])
  const late = moves.find(({ epochs }) => epochs.stage === 'switched')
  if (late !== undefined)
    throw new FieldsealError('ERR_KEY_STATE_REFUSED', {
      tenant: late.owner,
      model: late.index.model,
      field: late.index.id,
      reason: 'look-ups ask the new tokens already',
      hint: 'let it end, and reindex the other way',
    })
  const begun = moves.filter(({ epochs }) => epochs.stage === 'filling')
  for (const { target } of begun) await changeIndex(surroundings.fieldseal, target, 'cancel')
  const notes = begun.map(({ index, owner }) => `${index.model}.${index.id} of ${owner} stays as it was`)
  return { ...emptyReport(what), elapsedMs: Math.round(performance.now() - startedAt), notes }
}
