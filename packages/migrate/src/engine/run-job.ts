import { nowOf, type RecordMap, type RecordSource } from '@fieldseal/core/adapter'
import { assertKnown } from '../keys/key-versions.ts'
import { type ModelReport, type Report, rowsRemain, type TenantFailure } from '../report/report.ts'
import { add, type RowVerb, runBatch } from './batch.ts'
import { type Checkpoint, digestOf, type ModelProgress, newProgress, openCheckpoint } from './checkpoint.ts'
import { checkedPace, type Pace } from './pace.ts'
import { type Surroundings, type Target, targetsOf, type What } from './target.ts'
import { walk } from './walk.ts'

/** A verb over rows, with what identifies it and pins it to a configuration. */
export interface Job {
  readonly verb: RowVerb
  readonly what: What
  readonly pace: Pace
  /** Options of the verb and ids of the keys it began with: a checkpoint goes on only under the same. */
  readonly pinned: unknown
  /** Where a hint would send a caller whose rows remain. */
  readonly hint: string
  readonly notes?: readonly string[]
  /** Tenants whose keys it could not bring to its goal. */
  readonly failures?: readonly TenantFailure[]
  /** Runs before the first row is read. */
  opened?(checkpoint: Checkpoint): Promise<void>
  /** Runs after the first pass over all models, before rows are counted as remaining. */
  settled?(checkpoint: Checkpoint): Promise<void>
}

const MAX_PASSES = 5

/**
 * Runs a verb over all models that it is about, until a walk leaves nothing. @returns the report
 * @throws FieldsealError ERR_ROWS_REMAIN, with the report, while stragglers remain
 */
export async function runJob(surroundings: Surroundings, job: Job): Promise<Report> {
  const startedAt = performance.now()
  const { verb, what } = job
  const pace = checkedPace(job.pace)
  const targets = targetsOf(surroundings, verb.name, what)
  if (pace.dryRun === true) return dryRun(targets, job, pace.batchSize, startedAt)
  const models: ModelReport[] = []
  let resumed = false
  for (const [source, ofSource] of bySource(targets)) {
    const checkpoint = await openCheckpoint(source.checkpoints, jobName(job, ofSource[0]?.sourceAt), {
      digest: digestOf([verb.name, job.pinned, what, ofSource.map(describe)]),
      restart: pace.restart === true,
      now: nowOf(surroundings.fieldseal),
    })
    resumed ||= checkpoint.resumed
    await job.opened?.(checkpoint)
    const totals = new Map<Target, number>()
    for (const target of ofSource) totals.set(target, (await target.source.count(target.map, 'all')).rows)
    for (const target of ofSource) await onePass(target, job, checkpoint, pace, totals.get(target))
    await job.settled?.(checkpoint)
    for (const target of ofSource) models.push(await converge(target, job, checkpoint, pace, totals.get(target) ?? 0))
    checkpoint.state.finished = true // what remains is looked at afresh by the next run
    await checkpoint.save()
  }
  // A verb may begin without keys, but not for a tenant or keyspace of which nobody knows anything.
  if (pace.shard === undefined && models.every(({ rows }) => rows === 0)) await assertKnown(surroundings, what)
  const report = reportFrom(job, models, { resumed, startedAt })
  if (report.remaining > 0 || report.failures.length > 0) throw rowsRemain(report, hintFor(report, job))
  return report
}

function hintFor({ models, failures: [ofTenant] }: Report, { hint }: Job): string {
  const [failure] = models.flatMap(({ failures }) => failures)
  if (failure === undefined)
    return ofTenant === undefined
      ? hint
      : `the first is of tenant ${ofTenant.tenant}: ${ofTenant.code}; ${ofTenant.hint}`
  return `the first is ${failure.key}: ${failure.code}; mend it or bring its key back, then run it again`
}

function progressOf(target: Target, { state }: Checkpoint): ModelProgress {
  return (state.models[target.map.id] ??= newProgress(1, 0))
}

async function onePass(
  target: Target,
  { verb }: Job,
  checkpoint: Checkpoint,
  pace: ReturnType<typeof checkedPace>,
  total: number | undefined,
): Promise<void> {
  const progress = progressOf(target, checkpoint)
  if (progress.done) return
  await walk({ verb, target, progress, checkpoint, pace, total })
  progress.done = true
  await checkpoint.save()
}

/** Walks again until nothing is left that a walk could mend. */
async function converge(
  target: Target,
  job: Job,
  checkpoint: Checkpoint,
  pace: ReturnType<typeof checkedPace>,
  total: number,
): Promise<ModelReport> {
  const { verb } = job
  for (;;) {
    const progress = progressOf(target, checkpoint)
    await onePass(target, job, checkpoint, pace, total)
    const { counts } = progress
    const stuck = (counts['failed'] ?? 0) + (counts['denied'] ?? 0)
    const moved = (counts['updated'] ?? 0) + (counts['changed'] ?? 0)
    const counted = verb.converges ? await verb.remaining?.(target) : undefined
    const left = counted ?? (counts['changed'] ?? 0) + stuck
    const unread = total > 0 && (counts['rows'] ?? 0) === 0 && readsAll(target, job)
    const mayMend = verb.converges && (counted === undefined ? moved > 0 : counted > stuck)
    if (mayMend && progress.pass < MAX_PASSES) {
      checkpoint.state.models[target.map.id] = newProgress(progress.pass + 1, progress.updated)
      await checkpoint.save()
      continue
    }
    return modelReport(target, progress, unread ? total : Math.max(left, stuck))
  }
}

/** A walk without a filter that saw nothing in a table with rows has not read it. */
function readsAll({ what }: Target, { pace }: Job): boolean {
  return what.tenant === undefined && pace.shard === undefined
}

function modelReport(
  { map }: Target,
  { pass, counts, updated, failures }: ModelProgress,
  remaining: number,
): ModelReport {
  const {
    rows = 0,
    updated: _ofPass,
    unchanged = 0,
    failed = 0,
    denied = 0,
    erased = 0,
    changed = 0,
    gone = 0,
    others = 0,
    ...own
  } = counts
  return {
    model: map.id,
    passes: pass,
    rows: rows - others,
    updated,
    unchanged,
    failed,
    denied,
    erased,
    changed,
    gone,
    remaining,
    counts: own,
    failures,
  }
}

function reportFrom(
  { verb, what, notes = [], failures = [] }: Job,
  models: readonly ModelReport[],
  { resumed, startedAt }: { readonly resumed: boolean; readonly startedAt: number },
): Report {
  return {
    verb: verb.name,
    ...(what.tenant === undefined ? {} : { tenant: what.tenant }),
    dryRun: false,
    resumed,
    elapsedMs: Math.round(performance.now() - startedAt),
    models,
    failures,
    remaining: models.reduce((sum, { remaining }) => sum + remaining, 0),
    notes,
  }
}

/** Works on one page of each model without writing, to tell how long it would take. */
async function dryRun(targets: readonly Target[], job: Job, size: number, startedAt: number): Promise<Report> {
  const models: ModelReport[] = []
  let estimatedMs = 0
  for (const target of targets) {
    const { rows: total } = await target.source.count(target.map, 'all')
    const remaining = await job.verb.remaining?.(target)
    const sampled = performance.now()
    const progress = newProgress(0, 0)
    const dry: Target = { ...target, source: withoutWrites(target.source) }
    for await (const page of target.source.pages(target.map, { size, tokens: job.verb.tokens === true })) {
      const { counts, failures } = await runBatch(job.verb, dry, page, { size })
      for (const [name, count] of Object.entries(counts)) add(progress.counts, name, count)
      progress.failures.push(...failures.slice(0, 20))
      break
    }
    const { rows: seen = 0, updated: due = 0, failed = 0 } = progress.counts
    // Reading and cipher work were measured; a batched write takes about as long again.
    estimatedMs += seen === 0 ? 0 : ((performance.now() - sampled) / seen) * total * 2
    const share = seen === 0 ? 0 : Math.round(((due + failed) / seen) * total)
    models.push({ ...modelReport(target, progress, remaining ?? share), rows: total, updated: 0 })
  }
  const report = reportFrom(job, models, { resumed: false, startedAt })
  return { ...report, dryRun: true, estimatedMs: Math.round(estimatedMs) }
}

function withoutWrites(source: RecordSource): RecordSource {
  const written = async (_map: RecordMap, patches: readonly unknown[]) => patches.map(() => 'updated' as const)
  const methods = { compareAndSet: { value: written }, ...(source.convert && { convert: { value: written } }) }
  return Object.create(source, methods) as RecordSource // the same but for what writes
}

export function bySource(targets: readonly Target[]): ReadonlyMap<RecordSource, readonly Target[]> {
  const groups = new Map<RecordSource, Target[]>()
  for (const target of targets) groups.set(target.source, [...(groups.get(target.source) ?? []), target])
  return groups
}

/** One job per verb, scope, shard and source: sources may keep their checkpoints in one table. At most 200 characters. */
export function jobName(
  { verb, what, pace }: { readonly verb: { readonly name: string } } & Pick<Job, 'what' | 'pace'>,
  sourceAt = 0,
): string {
  const scope = Object.entries(what).map(([name, value]) => `${name}=${escaped(value)}`)
  const shard = pace.shard === undefined ? [] : [`shard=${pace.shard.join('/')}`]
  const source = sourceAt === 0 ? [] : [`source=${sourceAt}`]
  const name = ['fieldseal', verb.name, ...scope, ...shard, ...source].join(' ')
  return name.length <= 200 ? name : `fieldseal ${verb.name} ${digestOf([scope, shard, ...source])}`
}

/** A value that holds what stands between names and values, or what no column of text can. */
function escaped(value: string): string {
  return value.replaceAll(/[\s=%\p{Cc}]/gu, encodeURIComponent)
}

/** What a checkpoint is pinned to of a model. */
export function describe({ map }: Target): unknown {
  return [
    map.id,
    map.mode,
    map.bindRow,
    map.keyspacePath ?? map.keyspace,
    map.fields.map(({ id, type }) => [id, type]),
    map.indexes.map(({ id, bits }) => [id, bits]),
    map.rowKey.map(({ path, kind }) => [path, kind]),
  ]
}
