import fc from 'fast-check'
import { expect, it } from 'vitest'
import { DEFAULT_CACHE } from '../../src/cache/options.ts'
import { isFieldsealError } from '../../src/errors/fieldseal-error.ts'
import { changeIndex, rotateIndexKey, tokenRows } from '../../src/maintenance.ts'
import type { BlindIndexOptions } from '../../src/record/options.ts'
import type { BlindIndex, Envelope, IndexToken } from '../../src/record/ports.ts'
import { arrayKeyStore } from '../support/array-key-store.ts'
import { type Clinic, clinic, PATIENTS } from '../support/clinic.ts'
import { fakeCmk } from '../support/fake-cmk.ts'
import { manualClock } from '../support/manual-clock.ts'

/** A write is stored this long after its tokens were made, at most. */
const LONGEST_WRITE_MS = 60_000
/** Until nobody writes, and until nobody reads, by records older than a change. */
const WRITERS_MS = DEFAULT_CACHE.validForMs + DEFAULT_CACHE.callDeadlineMs + LONGEST_WRITE_MS
const READERS_MS = DEFAULT_CACHE.maxStaleMs + DEFAULT_CACHE.callDeadlineMs + LONGEST_WRITE_MS

const VALUES = ['ada', 'bob', 'eve', null] as const
const PROCESSES = 3
const ROWS = 5

interface StoredRow {
  value: string | null
  cell: Envelope | null
  tokens: readonly IndexToken[]
}

type Step =
  | { readonly do: 'wait'; readonly ms: number }
  | {
      readonly do: 'write'
      readonly by: number
      readonly row: number
      readonly value: string | null
      readonly lateMs: number
    }
  | { readonly do: 'find'; readonly by: number; readonly value: string }
  /** The key store answers this process no more, or again. */
  | { readonly do: 'cut'; readonly by: number }
  /** The migrator goes on, if it may: one change of stage, or one row. */
  | { readonly do: 'migrate' }

const by = fc.nat(PROCESSES - 1)
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.integer({ min: 1, max: 500_000 }) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('write' as const),
      by,
      row: fc.nat(ROWS - 1),
      value: fc.constantFrom(...VALUES),
      lateMs: fc.integer({ min: 0, max: LONGEST_WRITE_MS }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('find' as const), by, value: fc.constantFrom('ada', 'bob', 'eve') }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('cut' as const), by }) },
  { weight: 8, arbitrary: fc.record({ do: fc.constant('migrate' as const) }) },
)

/** What moves: the normaliser, or the key alone. */
const kind = fc.constantFrom('shape', 'key')

const indexOf = ({ map }: Clinic): BlindIndex => map.indexes[0] ?? expect.unreachable()

/** Processes that share a key store and rows, each with a cache of its own age, and time. */
async function world(moves: 'shape' | 'key') {
  const shared = arrayKeyStore()
  const cmk = fakeCmk('cmk')
  const start = (blindIndex: BlindIndexOptions) => {
    const keyStore = arrayKeyStore(shared.rows)
    const clock = manualClock()
    const declaration = { ...PATIENTS, fields: [{ path: 'value', type: 'string', options: { blindIndex } }] }
    return clinic({ keyStore, clock, cmk }, declaration)
  }
  const before: BlindIndexOptions = { normalize: 'trim', unique: true }
  await start(before).seal('a', { value: 'first' })
  const annotation = moves === 'shape' ? { ...before, next: { normalize: 'lower' as const } } : before
  const processes = Array.from({ length: PROCESSES }, () => start(annotation))
  const migrator = start(annotation)
  const old = shared.keks().flatMap(({ purpose, id }) => (purpose === 'index' ? [id] : []))
  const target = { index: indexOf(migrator), tenant: 'a', leaving: moves === 'key' ? old : [] }
  return { processes, migrator, target, rows: [] as (StoredRow | undefined)[] }
}
type World = Awaited<ReturnType<typeof world>>

/** Invariant: two rows that hold a value always have a token of one epoch in common, which a unique index compares. */
function assertCommonSlot({ rows }: World): void {
  const filled = rows.flatMap((row) => (row === undefined || row.value === null ? [] : [row]))
  for (const one of filled)
    for (const other of filled) {
      const common = one.tokens.filter(([epoch]) => other.tokens.some(([first]) => first === epoch))
      expect(common.length, 'two rows share no filled slot').toBeGreaterThan(0)
      const equal = common.every((token) => other.tokens.some((same) => Buffer.compare(token, same) === 0))
      expect(equal).toBe(one.value === other.value)
    }
}

/** One row of a walk. @returns whether it was written */
async function backfillRow({ migrator, rows, target }: World, at: number): Promise<boolean> {
  const row = rows[at]
  if (row === undefined) return false
  const stored = {
    row: migrator.rowOf('a', { value: row.cell }, idOf(at)),
    tokens: new Map([[target.index, [row.tokens]]]),
  }
  const [outcome] = await migrator.as('a', () => tokenRows(migrator.fieldseal, [stored], migrator.host.capture()))
  if (outcome === undefined || 'error' in outcome) throw outcome?.error
  const [patch] = outcome.cells
  if (patch === undefined) return false
  row.tokens = patch.tokens ?? row.tokens
  return true
}

/** The whole of a reindex, a durable step at a time; each waits until it may run. */
async function* migration(run: World, now: () => number): AsyncGenerator<void> {
  const change = (to: Parameters<typeof changeIndex>[2]) => changeIndex(run.migrator.fieldseal, run.target, to)
  async function* drain(ms: number) {
    const since = now()
    while (now() - since <= ms) yield
  }
  async function* walk() {
    for (let moved = true; moved; ) {
      moved = false
      for (let at = 0; at < ROWS; at++) {
        if (await backfillRow(run, at)) moved = true
        yield
      }
    }
  }
  await rotateIndexKey(run.migrator.fieldseal, { tenant: 'a', leaving: run.target.leaving })
  yield
  await change('begin')
  yield* drain(WRITERS_MS)
  yield* walk()
  await change('look-up-new')
  yield* drain(READERS_MS)
  await change('leave-old')
  yield* drain(WRITERS_MS)
  yield* walk()
}

const idOf = (row: number) => `b5a1f6de-3f7c-4ac3-9a2e-${String(row).padStart(12, '0')}`

const available = async <R>(run: Promise<R>): Promise<R | undefined> => {
  try {
    return await run
  } catch (error) {
    if (isFieldsealError(error) && error.kind === 'unavailable') return undefined
    throw error
  }
}

it('shares a filled slot with every process, and finds every row, in every stage and with caches of any age', async () => {
  let ended = 0
  await fc.assert(
    fc.asyncProperty(kind, fc.array(step, { minLength: 60, maxLength: 120 }), async (moves, steps) => {
      const run = await world(moves)
      let now = 0
      let late: { readonly at: number; readonly row: number; readonly stored: StoredRow }[] = []
      const moving = migration(run, () => now)

      const store = (until: number) => {
        const due = late.filter(({ at }) => at <= until).sort((a, b) => a.at - b.at)
        late = late.filter(({ at }) => at > until)
        for (const { row, stored } of due) {
          run.rows[row] = stored
          assertCommonSlot(run)
        }
      }
      for (const one of steps) {
        if (one.do === 'wait') {
          now += one.ms
          for (const { clock } of [...run.processes, run.migrator]) clock.advance(one.ms)
          store(now)
        } else if (one.do === 'migrate') {
          if ((await moving.next()).done === true) ended++
          assertCommonSlot(run)
        } else {
          const process = run.processes[one.by] as Clinic // by is one of them
          if (one.do === 'cut') process.keyStore.down = !process.keyStore.down
          else if (one.do === 'write') {
            const sealed = await available(process.seal('a', { value: one.value }, idOf(one.row)))
            if (sealed === undefined) continue
            const tokens = [...sealed.tokens.values()][0]?.[0] ?? []
            const stored = { value: one.value, cell: sealed.envelopes[0] ?? null, tokens }
            late.push({ at: now + one.lateMs, row: one.row, stored })
            store(now)
          } else {
            const asked = [{ index: indexOf(process), values: [one.value] }]
            const found = await available(
              process.as('a', () => process.host.cipher.tokens(asked, process.host.capture())),
            )
            const [token] = found?.[0] ?? []
            if (token === undefined) continue
            for (const row of run.rows) {
              const isFound = row?.tokens.some((stored) => Buffer.compare(stored, token) === 0) ?? false
              expect(isFound, `a row with ${row?.value} is found by ${one.value}`).toBe(row?.value === one.value)
            }
          }
        }
        await run.migrator.settled()
      }
    }),
    { numRuns: 60 },
  )
  expect(ended).toBeGreaterThan(0)
}, 120_000)
