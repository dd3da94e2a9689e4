import {
  changeIndex,
  changeKek,
  type ErrorCode,
  type Fieldseal,
  FieldsealError,
  findKey,
  type IndexChange,
  isFieldsealError,
  type KekId,
  nowOf,
  rotateIndexKey,
  type TokenedRow,
  tokenRows,
} from '@fieldseal/core/adapter'
import type { RowVerb } from '../engine/batch.ts'
import { type Checkpoint, digestOf, openCheckpoint } from '../engine/checkpoint.ts'
import { checkedPace, type Pace } from '../engine/pace.ts'
import { describe, jobName, runJob } from '../engine/run-job.ts'
import { type Surroundings, type Target, targetsOf, tokensOf, type What } from '../engine/target.ts'
import { isKek, knownKeys } from '../keys/key-versions.ts'
import { drain } from '../reindex/drain.ts'
import { emptyModel, emptyReport } from '../reindex/empty-report.ts'
import { indexesOf, indexRecords, isShared, liveKeys, movesOf, type StandingMove } from '../reindex/moves.ts'
import { scan } from '../reindex/scan.ts'
import { type ModelReport, type Report, reportOf, rowsRemain } from '../report/report.ts'
import { whatOf } from './rewrap.ts'

export interface ReindexOptions extends Pick<What, 'tenant' | 'model' | 'field'>, Omit<Pace, 'shard'> {
  /** Makes new index keys as well, because the old ones leaked or are due; they are retired afterwards. @defaultValue false */
  readonly newKey?: boolean
  /** Calls off what has begun, as long as look-ups ask the old tokens. @defaultValue false */
  readonly cancel?: boolean
  /** How long a transaction or a cursor of yours may still use what it looked up before. @defaultValue 600_000 */
  readonly longestTransactionMs?: number
  /** Told every second while the verb waits until running processes have heard of a change. */
  readonly onWait?: (wait: { readonly why: string; readonly remainingMs: number }) => void
}

/** Ten minutes: longer transactions than that are an incident. */
const LONGEST_TRANSACTION_MS = 600_000

/** One run of the verb, from wherever it stands. */
interface Run {
  readonly surroundings: Surroundings
  readonly options: ReindexOptions
  readonly pace: ReturnType<typeof checkedPace>
  readonly what: What
  readonly targets: readonly Target[]
  readonly checkpoint: Checkpoint
  readonly reports: Report[]
}

interface Step {
  readonly name: string
  run(run: Run): Promise<void>
}

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
  await knownKeys(surroundings, { tenant })
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
  if (report.remaining === 0) return report
  throw rowsRemain(report, 'bring the keys of denied tenants back, then run it again')
}

const STEPS: readonly Step[] = [
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

function assertOptions({ longestTransactionMs = 0, ...options }: ReindexOptions): void {
  const refuse = (field: string, reason: string, hint: string) => {
    throw new FieldsealError('ERR_ARGUMENT_INVALID', { field, reason, hint })
  }
  if ('shard' in options && options.shard !== undefined)
    refuse('shard', 'an index moves as a whole', 'raise concurrency instead')
  if (!Number.isFinite(longestTransactionMs) || longestTransactionMs < 0)
    refuse('longestTransactionMs', 'milliseconds', 'how long a transaction of yours may take')
}

/** Where the indexes of this run stand. New tenants may have come. */
async function standing({ surroundings, what, targets, checkpoint }: Run): Promise<readonly StandingMove[]> {
  const records = await indexRecords(surroundings, what.tenant)
  return movesOf(surroundings, indexesOf(targets), records, leavingOf(checkpoint))
}

function leavingOf({ state }: Checkpoint): readonly KekId[] {
  return (state.facts['leaving'] ?? []) as readonly KekId[] // ids that this verb has put there
}

/** Rows that would be in each other's way, of indexes that have not begun to move. */
async function refuseUnfit(run: Run): Promise<void> {
  const models = await unfit(run.surroundings, run)
  const report = { ...emptyReport(run.what), models, remaining: models.reduce((sum, one) => sum + one.remaining, 0) }
  if (report.remaining > 0)
    throw rowsRemain(report, 'change these values, or choose another normaliser: nothing has begun')
}

async function unfit(
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

/** A tenant whose keys its customer denies stays as it is until another run; the others go on. */
async function unlessDenied(run: Run, { owner }: StandingMove, act: () => Promise<unknown>): Promise<void> {
  const left = leftOf(run.checkpoint)
  if (left.has(owner)) return
  try {
    await act()
  } catch (error) {
    if (!isFieldsealError(error) || (error.kind !== 'denied' && error.kind !== 'erased')) throw error
    left.set(owner, error.code)
    run.checkpoint.state.facts['left'] = [...left].map((one) => JSON.stringify(one))
    await run.checkpoint.save()
  }
}

/** Tenants that this run leaves as they are, and why. */
function leftOf({ state }: Checkpoint): Map<string, ErrorCode> {
  const left = (state.facts['left'] ?? []) as readonly string[] // put there by unlessDenied()
  return new Map(left.map((one) => JSON.parse(one) as [string, ErrorCode]))
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

/** Leaves the new epoch while look-ups still ask the old one. Its tokens stay until the next reindex clears them. */
async function cancel(
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

async function dryRun(
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

/** What the last walk saw; `filled` and `cleared` tell what both wrote. */
function reportOfRun({ what, checkpoint, reports }: Run, behind: readonly StandingMove[], startedAt: number): Report {
  const written = (verb: string, model: string) =>
    reports.find((one) => one.verb === verb)?.models.find((one) => one.model === model)?.updated ?? 0
  const models = (reports.at(-1)?.models ?? []).map((one) => {
    const [filled, cleared] = [written('reindex-fill', one.model), written('reindex-clear', one.model)]
    return { ...one, updated: filled + cleared, counts: { ...one.counts, filled, cleared } }
  })
  const left = [...leftOf(checkpoint)]
  const remaining = left.filter(([, code]) => code !== 'ERR_KEY_ERASED').length
  return {
    ...emptyReport(what),
    resumed: checkpoint.resumed || reports.some(({ resumed }) => resumed),
    elapsedMs: Math.round(performance.now() - startedAt),
    models,
    remaining: remaining + behind.length,
    notes: [
      ...left.map(([tenant, code]) => `the indexes of ${tenant} stay as they were: ${code}`),
      ...behind.map(({ index, owner }) => `${index.model}.${index.id} of ${owner} was made meanwhile as it was before`),
    ],
  }
}
