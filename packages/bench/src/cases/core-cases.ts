import { randomUUID } from 'node:crypto'
import type { Row } from '@fieldseal/core/adapter'
import { coreBench } from '../clinic.ts'
import type { BenchGroup } from '../harness.ts'
import { peers } from '../peers.ts'
import { rawKey, rawOpen, rawSeal } from '../raw-crypto.ts'

const VALUE = 'x'.repeat(32)
const ROWS = 100
const VALUE_AAD = Buffer.alloc(32, 1)
const WRAP_AAD = Buffer.alloc(150, 2)

/**
 * Rows of `fields` values of 32 bytes, each row under a DEK of its own. The floor makes the same node:crypto calls: one key,
 * one wrap, `fields` values, with UTF-8 on the way in and out.
 */
export async function rowGroups(fields: number, goal: number): Promise<readonly BenchGroup[]> {
  const { host, map } = coreBench(fields)
  const context = host.capture()
  const rows = Array.from({ length: ROWS }, (): Row<unknown> => {
    const facts = map.facts({ id: randomUUID() }, context)
    return { map, facts, cells: map.fields.map((field) => ({ field, value: VALUE })) }
  })
  const sealed = await host.cipher.seal(rows, context)
  const stored = rows.map(
    (row, i): Row<unknown> => ({
      ...row,
      cells: row.cells.map(({ field }, j) => ({ field, value: sealed[i]?.envelopes[j] })),
    }),
  )
  const kek = rawKey()
  const sealRaw = () =>
    rows.map(() => {
      const dek = Buffer.alloc(32)
      const key = rawKey()
      return {
        key,
        wrap: rawSeal(kek, WRAP_AAD, dek),
        values: map.fields.map(() => rawSeal(key, VALUE_AAD, Buffer.from(VALUE, 'utf8'))),
      }
    })
  const raw = sealRaw()
  const openRaw = () => {
    let bytes = 0
    for (const { key, wrap, values } of raw) {
      rawOpen(kek, WRAP_AAD, wrap)
      rawKey() // the DEK becomes a KeyObject
      for (const value of values) bytes += rawOpen(key, VALUE_AAD, value).toString('utf8').length
    }
    return bytes
  }
  const unit = fields === 1 ? 'value' : `row of ${fields}`
  const others = peers().map((peer) => ({ ...peer, sealed: peer.seal(VALUE) }))
  const perValue = (run: () => unknown) => () => {
    for (let i = 0; i < ROWS * fields; i++) run()
  }
  const group = (verb: 'seal' | 'open', floor: () => unknown, ours: () => unknown): BenchGroup => ({
    name: `${verb} a ${unit}`,
    unit,
    unitsPerRun: ROWS,
    floor: 'raw node:crypto',
    goals: { fieldseal: goal },
    cases: [
      { name: 'raw node:crypto', run: floor },
      { name: 'fieldseal', run: ours },
      ...others.map((peer) => ({
        name: peer.name,
        run: perValue(verb === 'seal' ? () => peer.seal(VALUE) : () => peer.open(peer.sealed)),
      })),
    ],
    async gate() {
      const opened = await host.cipher.open(stored, context)
      if (opened.some(({ values }) => values.some((value) => value !== VALUE)))
        throw new Error('a value came back changed')
      if (others.some((peer) => peer.open(peer.sealed) !== VALUE)) throw new Error('a peer gave another value')
    },
  })
  return [
    group('seal', sealRaw, () => host.cipher.seal(rows, context)),
    group('open', openRaw, () => host.cipher.open(stored, context)),
  ]
}
