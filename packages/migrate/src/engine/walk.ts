import type { PageOptions } from '@fieldseal/core/adapter'
import { add, type BatchResult, type RowVerb, runBatch } from './batch.ts'
import { type Checkpoint, type ModelProgress, noteFailure } from './checkpoint.ts'
import { createRateLimit, type Pace, type Progress } from './pace.ts'
import type { Target } from './target.ts'

export interface WalkOptions {
  readonly verb: RowVerb
  readonly target: Target
  readonly progress: ModelProgress
  readonly checkpoint: Checkpoint
  readonly pace: Pace & { readonly batchSize: number; readonly concurrency: number }
  /** Rows of the table, as far as known. */
  readonly total: number | undefined
}

interface UnderWay {
  readonly after: Uint8Array
  readonly result: Promise<BatchResult>
}

/**
 * One walk over a table from where the checkpoint stands. `concurrency` batches are under way at once; the position moves
 * only over batches that are finished, in order, and is saved after each: a process that is killed repeats what was under
 * way. Holds at most `concurrency` + 1 pages.
 */
export async function walk(options: WalkOptions): Promise<void> {
  const { verb, target, progress, checkpoint, pace } = options
  const limit = createRateLimit(pace.rowsPerSecond, pace.signal)
  const underWay: UnderWay[] = []
  let saved: Promise<void> = Promise.resolve()
  const tell = teller(options)
  const pageOptions: PageOptions = {
    size: pace.batchSize,
    ...(pace.shard === undefined ? {} : { shard: pace.shard }),
    ...(verb.tokens === true ? { tokens: true } : {}),
    ...(target.what.tenant === undefined ? {} : { tenant: target.what.tenant }),
  }
  let position = progress.after === undefined ? undefined : Buffer.from(progress.after, 'base64')

  async function finishFirst(): Promise<void> {
    const [first] = underWay
    if (first === undefined) return
    const { counts, failures } = await first.result
    underWay.shift()
    for (const [name, count] of Object.entries(counts)) add(progress.counts, name, count)
    progress.updated += counts['updated'] ?? 0
    for (const failure of failures) noteFailure(progress, failure)
    progress.after = Buffer.from(first.after).toString('base64')
    // Written while the next batch is worked on: what it holds is finished, whenever it is written.
    await saved
    saved = checkpoint.save()
    saved.catch(() => undefined) // awaited in its turn
    tell()
  }

  try {
    const from = position === undefined ? {} : { after: position }
    for await (const page of target.source.pages(target.map, { ...pageOptions, ...from })) {
      await limit.take(page.length)
      const last = page.at(-1)
      if (last === undefined) continue
      const start = position === undefined ? pageOptions : { ...pageOptions, after: position }
      const result = runBatch(verb, target, page, start)
      result.catch(() => undefined) // awaited in its turn
      underWay.push({ after: last.after, result })
      position = Buffer.from(last.after)
      while (underWay.length >= pace.concurrency) await finishFirst()
      pace.signal?.throwIfAborted()
    }
    while (underWay.length > 0) await finishFirst()
    await saved
  } catch (error) {
    // What is under way ends before the job does: nobody writes after it has been told of.
    await Promise.allSettled([...underWay.map(({ result }) => result), saved])
    throw error
  }
}

function teller({ verb, target, progress, pace, total }: WalkOptions): () => void {
  const startedAt = performance.now()
  const before = progress.counts['rows'] ?? 0
  return () => {
    if (pace.onProgress === undefined) return
    const rows = progress.counts['rows'] ?? 0
    const rowsPerSecond = ((rows - before) / Math.max(1, performance.now() - startedAt)) * 1_000
    const left = total === undefined ? undefined : Math.max(0, total - rows)
    const told: Progress = {
      verb: verb.name,
      model: target.map.id,
      pass: progress.pass,
      rows,
      total,
      updated: progress.updated,
      rowsPerSecond: Math.round(rowsPerSecond),
      etaMs: left === undefined || rowsPerSecond === 0 ? undefined : Math.round((left / rowsPerSecond) * 1_000),
    }
    pace.onProgress(told)
  }
}
