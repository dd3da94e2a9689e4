import {
  changeIndex,
  changeKek,
  FieldsealError,
  findKey,
  type IndexChange,
  isFieldsealError,
  rotateIndexKey,
  type TokenedRow,
  tokenRows,
} from '@fieldseal/core/adapter'
import type { RowVerb } from '../engine/batch.ts'
import { runJob } from '../engine/run-job.ts'
import { type Surroundings, tokensOf } from '../engine/target.ts'
import { isKek } from '../keys/key-versions.ts'
import { reportOf, rowsRemain } from '../report/report.ts'
import { drain } from '../engine/drain.ts'
import { indexRecords, isShared, type StandingMove } from './moves.ts'
import { leavingOf, leftOf, LONGEST_TRANSACTION_MS, type Run, standing, unlessDenied } from './run.ts'
import { refuseUnfit } from './unfit.ts'

export interface Step {
  readonly name: string
  run(run: Run): Promise<void>
}

export const STEPS: readonly Step[] = [
  { name: 'scan', run: refuseUnfit },
  { name: 'begin', run: begin },
  { name: 'drain writers', run: (run) => wait(run, 'reachable', 'processes that fill the old tokens only') },
  { name: 'fill', run: (run) => walkTokens(run, 'reindex-fill') },
  { name: 'look up new', run: (run) => changeAll(run, 'look-up-new', 'filling') },
  { name: 'drain readers', run: (run) => wait(run, 'unreachable', 'processes that look up the old tokens') },
  { name: 'leave old', run: (run) => changeAll(run, 'leave-old', 'switched') },
  { name: 'drain writers', run: (run) => wait(run, 'reachable', 'processes that fill the old tokens') },
  { name: 'clear', run: (run) => walkTokens(run, 'reindex-clear') },
  { name: 'retire keys', run: retireKeys },
]

async function begin(run: Run): Promise<void> {
  const { surroundings, checkpoint } = run
  const { fieldseal, host } = surroundings
  const leaving = leavingOf(checkpoint)
  const moves = (await standing(run)).filter(({ epochs }) => !epochs.arrived)
  for (const { index } of moves)
    for (const field of index.fields)
      if (field.state !== 'encrypted')
        throw new FieldsealError('ERR_ARGUMENT_INVALID', {
          model: index.model,
          field: field.id,
          reason: `it is in state ${field.state}`,
          hint: 'one change at a time: backfill it first',
        })
  await checkpoint.save() // refused when somebody else has taken over since
  const rotated = new Set<string>()
  for (const move of moves)
    await unlessDenied(run, move, async () => {
      if (leaving.length > 0 && !rotated.has(move.owner))
        await rotateIndexKey(fieldseal, { ...ownerOf(host, move), leaving })
      rotated.add(move.owner)
      await changeIndex(fieldseal, move.target, 'begin')
    })
}

function ownerOf({ tenancy }: Surroundings['host'], { owner }: StandingMove) {
  if (isShared(owner)) return { acrossTenants: true }
  return tenancy === 'single' ? {} : { tenant: owner }
}

/** From each stage to the next, and over none: whoever did not come as far as the others stays. */
async function changeAll(run: Run, change: IndexChange, from: StandingMove['epochs']['stage']): Promise<void> {
  const { surroundings, checkpoint } = run
  const moves = await standing(run)
  // Invariant: what was seen is changed only by who still owns the job, and only as it was seen.
  await checkpoint.save()
  for (const move of moves)
    if (move.epochs.stage === from && !leftOf(checkpoint).has(move.owner))
      await unlessDenied(run, move, () => changeIndex(surroundings.fieldseal, move.target, change))
}

async function wait(
  { surroundings, options, pace: { signal } }: Run,
  bound: 'reachable' | 'unreachable',
  why: string,
): Promise<void> {
  const { longestTransactionMs = LONGEST_TRANSACTION_MS, onWait } = options
  await drain(surroundings.fieldseal, { bound, why, longestTransactionMs, onWait, signal })
}

/** Gives every row the tokens of the live epochs, and no others; where nothing moves, those of its values. */
async function walkTokens(run: Run, name: string): Promise<void> {
  const { surroundings, what, checkpoint } = run
  const left = leftOf(checkpoint)
  const verb: RowVerb = {
    name,
    tokens: true,
    converts: true,
    converges: true,
    async work(rows, target) {
      const own = rows.filter(({ row }) => !left.has(row.facts.tenant))
      const outcomes = await tokenRows(
        surroundings.fieldseal,
        own.map(({ row, stored }) => ({ row, tokens: tokensOf(target, stored) })),
        target.context,
        checkpoint.state.facts['moves'] === 0, // no other walk has made them anew
      )
      const byRow = new Map(own.map((row, i) => [row, outcomes[i] as TokenedRow])) // in the order of the rows
      return rows.map((row) => byRow.get(row) ?? {})
    },
  }
  const { onProgress, signal, batchSize, concurrency, rowsPerSecond } = run.pace
  const pace = {
    batchSize,
    concurrency,
    ...(rowsPerSecond === undefined ? {} : { rowsPerSecond }),
    ...(signal === undefined ? {} : { signal }),
    ...(onProgress === undefined ? {} : { onProgress }),
  }
  const job = { verb, what, pinned: [checkpoint.state.startedAt], hint: 'run it again: it goes on with these rows' }
  try {
    run.reports.push(
      await runJob(surroundings, { ...job, pace }).catch((error: unknown) => {
        // A walk of an earlier reindex that was given up.
        if (!isFieldsealError(error) || error.code !== 'ERR_CHECKPOINT_MISMATCH') throw error
        return runJob(surroundings, { ...job, pace: { ...pace, restart: true } })
      }),
    )
  } catch (error) {
    const report = reportOf(error)
    if (report === undefined || !isFieldsealError(error)) throw error
    throw rowsRemain({ ...report, verb: 'reindex' }, error.details.hint ?? job.hint)
  }
}

/** Takes keys out of use that no live epoch needs any more. */
async function retireKeys(run: Run): Promise<void> {
  const { surroundings, checkpoint, what } = run
  const { fieldseal } = surroundings
  const records = await indexRecords(surroundings, what.tenant)
  for (const id of leavingOf(checkpoint)) {
    if (records.some(({ role, kekId }) => role !== 'old' && kekId === id)) continue
    const kek = await findKey(fieldseal, id)
    if (kek !== undefined && isKek(kek) && (kek.state === 'active' || kek.state === 'decrypt-only'))
      await changeKek(fieldseal, id, { to: 'retired' })
  }
}
