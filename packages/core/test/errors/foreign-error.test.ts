import { expect, it } from 'vitest'
import { memberOf, textIn } from '../../src/errors/foreign-error.ts'

it('reads a member of anything that was thrown', () => {
  const fn = Object.assign(() => undefined, { code: 7 })
  for (const thrown of [{ code: 7 }, fn, Object.assign(new Error('x'), { code: 7 })])
    expect(memberOf(thrown, 'code')).toBe(7)
  for (const thrown of [undefined, null, 7, 'code', Symbol('code'), {}])
    expect(memberOf(thrown, 'code')).toBeUndefined()
})

it('takes what throws when it is asked for nothing', () => {
  const get = () => {
    throw new Error('no')
  }
  const hostile = new Proxy({}, { get })
  expect(memberOf(hostile, 'code')).toBeUndefined()
  expect(textIn(hostile, 'message')).toBe('')
})

it('takes only a string for text', () => {
  expect(textIn({ message: 'text' }, 'message')).toBe('text')
  for (const message of [7, null, {}, ['text'], undefined]) expect(textIn({ message }, 'message')).toBe('')
})
