import type { Surroundings } from '../engine/target.ts'
import { type ModelReport, rowsRemain } from '../report/report.ts'
import { emptyModel, emptyReport } from './empty-report.ts'
import { indexesOf, indexRecords, movesOf } from './moves.ts'
import type { Run } from './run.ts'
import { scan } from './scan.ts'

/** Rows that would be in each other's way, of indexes that have not begun to move. */
export async function refuseUnfit(run: Run): Promise<void> {
  const models = await unfit(run.surroundings, run)
  const report = { ...emptyReport(run.what), models, remaining: models.reduce((sum, one) => sum + one.remaining, 0) }
  if (report.remaining > 0)
    throw rowsRemain(report, 'change these values, or choose another normaliser: nothing has begun')
}

export async function unfit(
  surroundings: Surroundings,
  { targets, what, pace }: Pick<Run, 'targets' | 'what' | 'pace'>,
): Promise<readonly ModelReport[]> {
  const records = await indexRecords(surroundings, what.tenant)
  const moves = await movesOf(surroundings, indexesOf(targets), records, [])
  const models: ModelReport[] = []
  for (const target of targets) {
    const reshaped = target.map.indexes.filter((index) =>
      moves.some(({ index: { model, id }, epochs }) => {
        return model === index.model && id === index.id && epochs.stage === 'settled' && !epochs.arrived
      }),
    )
    if (reshaped.length === 0) continue
    const { rows, found, failures } = await scan(surroundings.fieldseal, target, reshaped, pace)
    models.push({ ...emptyModel(target.map.id), rows, failed: found, remaining: found, failures })
  }
  return models
}
