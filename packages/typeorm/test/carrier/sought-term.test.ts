import type { BlindIndex, IndexToken, OperationContext } from '@fieldseal/core/adapter'
import { expect, it } from 'vitest'
import { Sealed } from '../../src/carrier/sealed.ts'
import { SoughtTerm } from '../../src/carrier/sought-term.ts'
import { replaceResolved, resolvedParameter, resolveParameters } from '../../src/carrier/resolve.ts'
import type { SealedColumn, TokenSlots } from '../../src/entity-map/entity-model.ts'
import type { Installation } from '../../src/install/installation.ts'
import { conflictColumns, type UpsertPlan } from '../../src/write-path/upsert.ts'

const index = {
  model: 'people',
  id: 'email',
  truncated: false,
  matchKey: ([value]: readonly unknown[]) => String(value).toLowerCase(),
} as BlindIndex
const slots = { index } as TokenSlots
const column = { field: { model: 'people', path: 'email' }, slots } as SealedColumn
const context: OperationContext = { tenant: 't', onUnreadable: 'throw' }
const token = (epoch: number, rest: number) => Buffer.of(epoch, rest, rest) as Uint8Array as IndexToken
const term = (values: string[], many = false) =>
  new SoughtTerm(
    [column],
    slots,
    values.map((value) => [value]),
    many,
    context,
    'p',
  )

it('an epoch keeps its slot: odd ones the first column, even ones the reserved one', () => {
  const one = term(['a'])
  expect(one.resolved).toBe(false)
  one.resolve([[token(1, 7), token(2, 8)]])
  expect([one.parameter('odd'), one.parameter('even')]).toEqual([Buffer.of(1, 7, 7), Buffer.of(2, 8, 8)])
  const later = term(['a'])
  later.resolve([[token(2, 8)]])
  expect([later.parameter('odd'), later.parameter('even')]).toEqual([null, Buffer.of(2, 8, 8)])
  const many = term(['a', 'b'], true)
  many.resolve([[token(3, 1)], [token(3, 2), token(4, 2)]])
  expect(many.parameter('odd')).toEqual([Buffer.of(3, 1, 1), Buffer.of(3, 2, 2)])
  expect(many.parameter('even')).toEqual([Buffer.of(4, 2, 2)])
})

it('two live epochs of one slot are refused', () => {
  expect(() => term(['a']).resolve([[token(1, 1), token(3, 1)]])).toThrow(/ERR_INDEX_UNKNOWN/)
})

it('tells rows that were found for their value from those whose token is not their own', () => {
  const both = term(['A', 'b'], true)
  both.resolve([[token(1, 7)], [token(1, 9)]])
  expect(both.verdict([token(1, 7), null], ['a'])).toBe('hit')
  expect(both.verdict([token(1, 7), null], ['b'])).toBe('foreign')
  expect(both.verdict([token(1, 7), null], [null])).toBe('foreign')
  expect(both.verdict([token(1, 5), undefined], ['c'])).toBe('other')
  expect(both.verdict([null, token(2, 7)], ['a'])).toBe('other')
})

it('a truncated token may belong to several of the values', () => {
  const both = term(['a', 'b'], true)
  both.resolve([[token(1, 7)], [token(1, 7)]])
  expect([
    both.verdict([token(1, 7)], ['a']),
    both.verdict([token(1, 7)], ['b']),
    both.verdict([token(1, 7)], ['c']),
  ]).toEqual(['hit', 'hit', 'foreign'])
})

it('carriers are replaced when their tokens are known, all of a statement in one batch', async () => {
  const [one, two] = [term(['a']), term(['b', 'c'], true)]
  const carriers = [one, two].flatMap((each) =>
    (['odd', 'even'] as const).map((slot) => new Sealed({ kind: 'sought', term: each, slot })),
  )
  expect(replaceResolved(carriers)).toBeUndefined()
  expect(resolvedParameter('plain')).toBe('plain')
  const batches: number[] = []
  const cipher = {
    tokens: async (terms: readonly unknown[]) => {
      batches.push(terms.length)
      return terms.map((_, at) => [token(2, at)])
    },
  }
  const installation = { host: { cipher } } as unknown as Installation
  const parameters = await resolveParameters(installation, ['x', ...carriers], undefined)
  expect(batches).toEqual([3])
  expect(parameters).toEqual(['x', null, Buffer.of(2, 0, 0), [], [Buffer.of(2, 1, 1), Buffer.of(2, 2, 2)]])
  expect(replaceResolved(carriers)).toEqual(parameters.slice(1))
})

it('what was made for the dirty check never becomes part of a statement', async () => {
  await expect(
    resolveParameters({ host: {} } as Installation, [new Sealed({ kind: 'compared', key: 'secret' })], undefined),
  ).rejects.toMatchObject({ code: 'ERR_PLAINTEXT_BLOCKED' })
})

it('an upsert meets the unique index of the slot that look-ups ask', () => {
  const slots = { index, odd: { databaseName: 'email_bidx' }, even: { databaseName: 'email_bidx_next' } }
  const plan = { target: ['mrn', slots], tenant: 'clinicId' } as unknown as UpsertPlan
  expect(conflictColumns(plan, 'odd')).toEqual(['mrn', 'email_bidx', 'clinicId'])
  expect(conflictColumns(plan, 'even')).toEqual(['mrn', 'email_bidx_next', 'clinicId'])
  expect(conflictColumns({ ...plan, target: 'a_constraint' }, 'odd')).toBe('a_constraint')
})
