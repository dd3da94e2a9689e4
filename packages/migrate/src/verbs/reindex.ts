import { FieldsealError, nowOf } from '@fieldseal/core/adapter'
import { digestOf, openCheckpoint } from '../engine/checkpoint.ts'
import { checkedPace } from '../engine/pace.ts'
import { describe, jobName } from '../engine/run-job.ts'
import { type Surroundings, type Target, targetsOf } from '../engine/target.ts'
import { assertKnown } from '../keys/key-versions.ts'
import { cancel } from '../reindex/cancel.ts'
import { dryRun } from '../reindex/dry-run.ts'
import { emptyReport } from '../reindex/empty-report.ts'
import { indexesOf, indexRecords, liveKeys, type StandingMove } from '../reindex/moves.ts'
import { leftOf, type ReindexOptions, type Run, standing } from '../reindex/run.ts'
import { type Step, STEPS } from '../reindex/steps.ts'
import { type Report, rowsRemain, tenantFailure } from '../report/report.ts'
import { whatOf } from './rewrap.ts'

/**
 * Moves blind indexes to what `blindIndex.next` describes, or to a new key, online: both tokens are filled while look-ups
 * ask the old ones, then the new ones are asked, then the old ones are left and cleared. Between two stages the verb waits
 * until no running process may know the stage before, by the cache limits of this configuration, which must be those of the
 * application. A killed run goes on where it was; a wait begins anew.
 *
 * Where nothing moves, every row is opened and gets the tokens of its values: after an index was added, it waits for nothing.
 *
 * First lists, by key, rows that a unique index would hold equal afterwards, and values that it cannot hold; nothing begins
 * while there are any. Every running process must know `next` already.
 *
 * @throws FieldsealError ERR_ROWS_REMAIN with the report, ERR_KEY_STATE_REFUSED
 */
export async function reindex(surroundings: Surroundings, options: ReindexOptions = {}): Promise<Report> {
  const startedAt = performance.now()
  const { tenant, model, field, newKey = false } = options
  assertOptions(options)
  const what = whatOf({ tenant, model, field, keyspace: undefined })
  await assertKnown(surroundings, { tenant })
  const targets = targetsOf(surroundings, 'reindex', what)
  const pace = checkedPace(options)
  indexesOf(targets) // refuses a field without index
  if (options.cancel === true) return cancel(surroundings, targets, what, startedAt)
  if (options.dryRun === true) return dryRun(surroundings, { options, targets, what, pace, startedAt })
  const [first] = targets as [Target, ...Target[]] // targetsOf() gives one or throws
  const name = jobName({ verb: { name: 'reindex' }, what, pace })
  const checkpoint = await openCheckpoint(first.source.checkpoints, name, {
    digest: digestOf(['reindex', newKey, what, targets.map(describe)]),
    restart: pace.restart === true,
    now: nowOf(surroundings.fieldseal),
  })
  const run: Run = { surroundings, options, pace, what, targets, checkpoint, reports: [] }
  const { facts } = checkpoint.state
  if (facts['leaving'] === undefined) {
    facts['leaving'] = newKey ? liveKeys(await indexRecords(surroundings, tenant), await standing(run)) : []
    await checkpoint.save()
  }
  for (let at = Number(facts['step'] ?? 0); at < STEPS.length; at++) {
    pace.signal?.throwIfAborted()
    const step = STEPS[at] as Step
    await step.run(run)
    if (step.name === 'begin' && (await standing(run)).every(({ epochs }) => epochs.stage === 'settled')) {
      at = STEPS.findIndex(({ name: other }) => other === 'clear') - 1
      facts['moves'] = 0
    }
    facts['step'] = at + 1
    await checkpoint.save()
  }
  checkpoint.state.finished = true
  await checkpoint.save()
  const behind = (await standing(run)).filter(({ epochs, owner }) => !epochs.arrived && !leftOf(checkpoint).has(owner))
  const report = reportOfRun(run, behind, startedAt)
  if (report.remaining === 0 && report.failures.length === 0) return report
  throw rowsRemain(report, 'bring the keys of denied tenants back, then run it again')
}

function assertOptions({ longestTransactionMs = 0, ...options }: ReindexOptions): void {
  const refuse = (field: string, reason: string, hint: string) => {
    throw new FieldsealError('ERR_ARGUMENT_INVALID', { field, reason, hint })
  }
  if ('shard' in options && options.shard !== undefined)
    refuse('shard', 'an index moves as a whole', 'raise concurrency instead')
  if (!Number.isFinite(longestTransactionMs) || longestTransactionMs < 0)
    refuse('longestTransactionMs', 'milliseconds', 'how long a transaction of yours may take')
}

/** What the last walk saw; `filled` and `cleared` tell what both wrote. */
function reportOfRun({ what, checkpoint, reports }: Run, behind: readonly StandingMove[], startedAt: number): Report {
  const written = (verb: string, model: string) =>
    reports.find((one) => one.verb === verb)?.models.find((one) => one.model === model)?.updated ?? 0
  const models = (reports.at(-1)?.models ?? []).map((one) => {
    const [filled, cleared] = [written('reindex-fill', one.model), written('reindex-clear', one.model)]
    return { ...one, updated: filled + cleared, counts: { ...one.counts, filled, cleared } }
  })
  const left = [...leftOf(checkpoint)]
  const denied = left.filter(([, code]) => code !== 'ERR_KEY_ERASED')
  return {
    ...emptyReport(what),
    resumed: checkpoint.resumed || reports.some(({ resumed }) => resumed),
    elapsedMs: Math.round(performance.now() - startedAt),
    models,
    failures: denied.map(([tenant, code]) => tenantFailure(new FieldsealError(code), { tenant })),
    remaining: behind.length,
    notes: [
      ...left.map(([tenant, code]) => `the indexes of ${tenant} stay as they were: ${code}`),
      ...behind.map(({ index, owner }) => `${index.model}.${index.id} of ${owner} was made meanwhile as it was before`),
    ],
  }
}
