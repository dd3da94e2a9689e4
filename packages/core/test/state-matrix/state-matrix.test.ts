import { describe, expect, it } from 'vitest'
import { DIRECT_TABLE, TABLE } from './table.ts'
import {
  CACHE,
  type CacheState,
  type Cell,
  DIRECT_CACHE,
  DIRECT_STORE,
  happens,
  KMS,
  type Mode,
  STORE,
  type StoreState,
  type Use,
  USES,
} from './world.ts'

interface Expected {
  readonly cell: Cell
  readonly expected: string
}

/** The lines of a table: one per use, state of the cache and state of the record, with a cell per answer of the KMS. */
function linesOf(table: string) {
  const [head, ...rows] = table
    .trim()
    .split('\n')
    .map((line) => line.split('|').map((part) => part.trim()))
  const lines = rows.map(([name = '', ...expected]) => {
    const [use, cache, store] = name.split(/ +/) as [Use, CacheState, StoreState] // which states there are is checked below
    const cells = expected.map(
      (one, i): Expected => ({ cell: { use, cache, store, kms: KMS[i] ?? 'ok' }, expected: one }),
    )
    return { use, cache, store, cells }
  })
  return { head, lines, all: lines.flatMap(({ cells }) => cells) }
}

const TABLES: readonly (readonly [Mode, string, object, readonly StoreState[]])[] = [
  ['kek', TABLE, CACHE, STORE],
  ['direct', DIRECT_TABLE, DIRECT_CACHE, DIRECT_STORE],
]

describe.each(TABLES)('mode %s', (mode, table, caches, stores) => {
  const { head, lines, all } = linesOf(table)

  describe.each(lines)('a $use with a key in state $cache whose record is $store', ({ cells }) => {
    it('asks, ends and tells as the table says, whatever the KMS answers', async () => {
      const happened = await Promise.all(cells.map(({ cell }) => happens(cell, mode)))
      expect(Object.fromEntries(happened.map((one, i) => [KMS[i], one]))).toEqual(
        Object.fromEntries(cells.map(({ expected }, i) => [KMS[i], expected])),
      )
    })
  })

  it('has each combination of states once in its table', () => {
    expect(head?.slice(1)).toEqual(KMS)
    const names = all.map(({ cell }) => Object.values(cell).join(' '))
    const wanted = USES.flatMap((use) =>
      Object.keys(caches).flatMap((cache) =>
        stores.flatMap((store) => KMS.map((kms) => [use, cache, store, kms].join(' '))),
      ),
    )
    expect(names).toEqual(wanted)
  })

  const served = (where: (cell: Cell) => boolean) =>
    all.filter(({ cell, expected }) => where(cell) && expected.startsWith('ok')).map(({ cell }) => cell)
  const denies = ({ kms }: Cell) => ['denied', 'disabled', 'pending', 'destroyed'].includes(kms)
  const isSilent = ({ kms }: Cell) => kms === 'throttled' || kms === 'unreachable'
  const mustAsk = ({ cache }: Cell) => cache === 'none' || cache === 'stale' || cache === 'dead'

  it('serves nothing that the KMS denies, once it must be asked', () => {
    expect(served((cell) => denies(cell) && mustAsk(cell))).toEqual([])
  })

  it('reads nothing under another key, an edited, retired or destroyed record, once they must be looked at', () => {
    const restricted = ['edited', 'retired', 'destroyed']
    const wrong = ({ kms, store }: Cell) => kms === 'wrong-key' || restricted.includes(store)
    expect(served((cell) => cell.use === 'read' && wrong(cell) && mustAsk(cell))).toEqual([])
    const gone = ({ store }: Cell) => store === 'retired' || store === 'destroyed'
    expect(served((cell) => gone(cell) && mustAsk(cell))).toEqual([])
  })

  it('writes nothing while nobody answers, beyond validForMs', () => {
    expect(served((cell) => cell.use === 'write' && isSilent(cell) && mustAsk(cell))).toEqual([])
  })

  it('reads while nobody answers exactly from a key that is not dead, and says so', () => {
    const stale = all.filter(({ cell }) => cell.use === 'read' && isSilent(cell) && cell.cache === 'stale')
    for (const { cell, expected } of stale)
      if (cell.store === 'active' || cell.store === 'decrypt-only') expect(expected).toMatch(/^ok .*S$/)
    expect(served((cell) => cell.use === 'read' && isSilent(cell) && cell.cache === 'dead')).toEqual([])
  })

  it('asks nobody for a fresh key, sends a denial once, and never asks more than three times', () => {
    for (const { cell, expected } of all) {
      const [attempts = 0, calls = 0] = (/(\d)\/(\d)/.exec(expected) ?? []).slice(1).map(Number)
      const asksAlways = mode === 'direct' && cell.use === 'write' // each row has a DEK of its own
      if (cell.cache === 'fresh') expect([asksAlways ? 0 : attempts, calls]).toEqual([0, 0])
      if (denies(cell)) expect(attempts).toBeLessThanOrEqual(1)
      expect(attempts).toBeLessThanOrEqual(3)
      expect(calls).toBeLessThanOrEqual(3)
    }
  })
})
