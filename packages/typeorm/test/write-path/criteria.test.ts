import { Brackets, Equal, In, Not } from 'typeorm'
import { expect, it } from 'vitest'
import type { EntityModel } from '../../src/entity-map/entity-model.ts'
import { Criteria, equalitiesOf } from '../../src/write-path/criteria.ts'

const fact = (name: string) => ({ path: name, column: { getEntityValue: (row: Record<string, unknown>) => row[name] } })
const model = { facts: [fact('id'), fact('clinicId')] } as unknown as EntityModel
const stated = (where: unknown) => Object.fromEntries(equalitiesOf(model, where))

it('an equality says for certain what a row is, nothing else does', () => {
  expect(stated({ id: 1, name: 'x' })).toEqual({ id: 1 })
  expect(stated({ id: Equal(1), clinicId: 'a' })).toEqual({ id: 1, clinicId: 'a' })
  expect(stated([{ id: 1 }])).toEqual({ id: 1 })
  for (const where of [
    { id: In([1]) },
    { id: Not(1) },
    { id: null },
    { id: undefined },
    { id: () => 'x' },
    [{ id: 1 }, { id: 2 }],
    'id = 1',
    new Brackets(() => undefined),
    undefined,
  ]) {
    expect(stated(where)).toEqual({})
  }
})

it('conditions joined by AND add up, one OR makes everything uncertain, and so does a clause added by others', () => {
  const criteria = new Criteria()
  criteria.reset(new Map([['id', 1]]))
  criteria.and(new Map([['clinicId', 'a']]))
  expect([...criteria.certain(2)]).toEqual([
    ['id', 1],
    ['clinicId', 'a'],
  ])
  expect([...criteria.certain(3)]).toEqual([])
  const copy = criteria.clone()
  copy.or(new Map([['id', 2]]))
  expect([...copy.certain(3)]).toEqual([])
  expect([...criteria.certain(2)]).toHaveLength(2)
  const entity = new Criteria()
  entity.or(new Map())
  entity.refine(new Map([['id', 7]]))
  expect([...entity.certain(1)]).toEqual([['id', 7]])
})
