import { describe, expect, it } from 'vitest'
import { TABLE } from './table.ts'
import { CACHE, type CacheState, type Cell, happens, KMS, STORE, type StoreState, type Use, USES } from './world.ts'

interface Line {
  readonly use: Use
  readonly cache: CacheState
  readonly store: StoreState
  readonly cells: readonly { readonly cell: Cell; readonly expected: string }[]
}

const [head, ...rows] = TABLE.trim()
  .split('\n')
  .map((line) => line.split('|').map((part) => part.trim()))
const lines = rows.map(([name = '', ...expected]): Line => {
  const [use, cache, store] = name.split(/ +/) as [Use, CacheState, StoreState] // the states of the table are checked below
  const cells = expected.map((one, i) => ({ cell: { use, cache, store, kms: KMS[i] ?? 'ok' }, expected: one }))
  return { use, cache, store, cells }
})
const all = lines.flatMap(({ cells }) => cells)

describe.each(lines)('a $use with a key in state $cache whose record is $store', ({ cells }) => {
  it('asks, ends and tells as the table says, whatever the KMS answers', async () => {
    const happened = await Promise.all(cells.map(({ cell }) => happens(cell)))
    expect(Object.fromEntries(happened.map((one, i) => [KMS[i], one]))).toEqual(
      Object.fromEntries(cells.map(({ expected }, i) => [KMS[i], expected])),
    )
  })
})

describe('the table', () => {
  it('has each combination of states once', () => {
    expect(head?.slice(1)).toEqual(KMS)
    const names = all.map(({ cell }) => Object.values(cell).join(' '))
    const wanted = USES.flatMap((use) =>
      (Object.keys(CACHE) as CacheState[]).flatMap((cache) =>
        STORE.flatMap((store) => KMS.map((kms) => [use, cache, store, kms].join(' '))),
      ),
    )
    expect(names).toEqual(wanted)
    expect(new Set(names).size).toBe(450)
  })

  const served = (where: (cell: Cell) => boolean) =>
    all.filter(({ cell, expected }) => where(cell) && expected.startsWith('ok')).map(({ cell }) => cell)
  const denies = ({ kms }: Cell) => ['denied', 'disabled', 'pending', 'destroyed'].includes(kms)
  const isSilent = ({ kms }: Cell) => kms === 'throttled' || kms === 'unreachable'
  const mustAsk = ({ cache }: Cell) => cache === 'none' || cache === 'stale' || cache === 'dead'

  it('serves nothing that the KMS denies, once it must be asked', () => {
    expect(served((cell) => denies(cell) && mustAsk(cell))).toEqual([])
  })

  it('serves nothing under another key, an edited or a retired record, once they must be looked at', () => {
    const wrong = ({ kms, store }: Cell) => kms === 'wrong-key' || store === 'edited' || store === 'retired'
    expect(served((cell) => wrong(cell) && mustAsk(cell))).toEqual([])
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
      if (cell.cache === 'fresh') expect([attempts, calls]).toEqual([0, 0])
      if (denies(cell)) expect(attempts).toBeLessThanOrEqual(1)
      expect(attempts).toBeLessThanOrEqual(3)
      expect(calls).toBeLessThanOrEqual(3)
    }
  })
})
