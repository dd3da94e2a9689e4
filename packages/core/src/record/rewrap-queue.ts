import type { Envelope } from '../envelope/layout.ts'
import { isFieldsealError } from '../errors/fieldseal-error.ts'
import type { EventBus } from '../observe/events.ts'
import { createOutside } from '../tenant/outside.ts'
import type { RewriteDeps } from './open-raw.ts'
import type { RecordWriter, RewrapQueue, Row, RowPatch } from './ports.ts'
import { rewrapRow } from './rewrap-row.ts'

const MAX_QUEUED_ROWS = 10_000
const ROWS_PER_BATCH = 200
const START_AFTER_MS = 20

interface Queued {
  readonly row: Row<Envelope>
  readonly key: unknown
  readonly writer: RecordWriter
}

export interface ClosableRewrapQueue extends RewrapQueue {
  /** Finishes what is queued and takes no more. */
  close(): Promise<void>
}

/** Holds captured facts of rows, never a live context. Keys are asked for again when it runs. */
export function createRewrapQueue(deps: RewriteDeps & { readonly events: EventBus }): ClosableRewrapQueue {
  const { events } = deps
  const outside = createOutside() // what it does is done for no caller
  let queued: Queued[] = []
  let running: Promise<void> | undefined
  let timer: NodeJS.Timeout | undefined
  let closed = false
  const done = { updated: 0, changed: 0 }

  function start(): Promise<void> {
    clearTimeout(timer)
    timer = undefined
    running ??= outside(drain).finally(() => {
      running = undefined
    })
    return running
  }

  async function drain(): Promise<void> {
    while (queued.length > 0) {
      const batch = queued.slice(0, ROWS_PER_BATCH)
      queued = queued.slice(ROWS_PER_BATCH)
      for (const group of groups(batch)) await write(group)
    }
  }

  async function write(rows: readonly Queued[]): Promise<void> {
    const [first] = rows
    if (first === undefined) return
    const { map, facts } = first.row
    const failed = (error: unknown) =>
      events.emit('background.failed', {
        operation: 'rewrap',
        tenant: facts.tenant,
        code: isFieldsealError(error) ? error.code : 'unclassified',
      })
    const patches: RowPatch[] = []
    for (const { row, key } of rows) {
      try {
        const cells = await rewrapRow(row, deps)
        if (cells.length > 0) patches.push({ key, cells })
      } catch (error) {
        failed(error) // Best effort: the row stays under its old KEK and is found again at the next read.
      }
    }
    if (patches.length === 0) return
    try {
      const results = await first.writer.compareAndSet(map, patches)
      const updated = results.filter((result) => result === 'updated').length
      done.updated += updated
      done.changed += results.length - updated
      events.emit('rewrap.done', { tenant: facts.tenant, model: map.id, updated, changed: results.length - updated })
    } catch (error) {
      failed(error)
    }
  }

  return {
    offer(row, key, writer) {
      if (closed || queued.length >= MAX_QUEUED_ROWS) {
        events.emit('rewrap.dropped', { tenant: row.facts.tenant, model: row.map.id, cells: row.cells.length })
        return
      }
      queued.push({ row, key, writer })
      // A moment later, so that the cells of one result set go in one batch; unref'd: it keeps no process alive.
      timer ??= setTimeout(() => void start(), START_AFTER_MS).unref()
    },
    async flush() {
      const before = { ...done }
      while (queued.length > 0 || running !== undefined) await start()
      return { updated: done.updated - before.updated, changed: done.changed - before.changed }
    },
    async close() {
      closed = true
      await start()
    },
  }
}

/** Neighbours in the queue of one writer, model and tenant: the rows of a result set follow each other. */
function groups(batch: readonly Queued[]): Queued[][] {
  const out: Queued[][] = []
  for (const item of batch) {
    const last = out.at(-1)
    const head = last?.[0]
    const alike =
      head !== undefined &&
      head.writer === item.writer &&
      head.row.map === item.row.map &&
      head.row.facts.tenant === item.row.facts.tenant
    if (alike) last?.push(item)
    else out.push([item])
  }
  return out
}
