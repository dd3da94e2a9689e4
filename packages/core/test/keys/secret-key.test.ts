import { randomBytes } from 'node:crypto'
import { inspect } from 'node:util'
import { expect, it } from 'vitest'
import { isZeroedKey, SecretKey } from '../../src/keys/secret-key.ts'

const REDACTED = '[SecretKey redacted]'
/** Every way in which bytes are usually written. */
const forms = (bytes: Uint8Array) => {
  const buffer = Buffer.from(bytes)
  return [
    buffer.toString('hex'),
    buffer.toString('base64url'),
    buffer.toString('base64'),
    [...buffer].join(','),
    [...buffer].join(', '),
  ]
}

it('prints as redacted, however it is printed', () => {
  const bytes = randomBytes(32)
  const key = new SecretKey(bytes)
  key.exposeKeyObject()
  const printed = [
    inspect(key),
    inspect(key, { showHidden: true, depth: Infinity, getters: true }),
    inspect(key, { customInspect: false, showHidden: true, depth: Infinity }),
    inspect({ nested: [key] }, { showHidden: true, depth: Infinity }),
    JSON.stringify(key),
    JSON.stringify({ key }),
    String(key),
    JSON.stringify(Object.entries(key)),
    inspect(structuredClone({ key }), { showHidden: true }),
    inspect(Reflect.ownKeys(key)),
  ]
  for (const text of printed) for (const form of forms(bytes)) expect(text).not.toContain(form)
  expect([inspect(key), JSON.stringify(key), String(key)]).toEqual([REDACTED, `"${REDACTED}"`, REDACTED])
})

it('clones to nothing by structuredClone', () => {
  expect(structuredClone(new SecretKey(randomBytes(32)))).toEqual({})
})

it('zeroes its bytes when disposed and throws from then on', () => {
  const bytes = randomBytes(32)
  const key = new SecretKey(bytes)
  key.exposeKeyObject()
  {
    using scoped = key
    expect(scoped.disposed).toBe(false)
  }
  expect(key.disposed).toBe(true)
  expect(bytes.equals(Buffer.alloc(32))).toBe(true)
  const other = new SecretKey(randomBytes(32))
  for (const use of [
    () => key.exposeBytes(),
    () => key.exposeKeyObject(),
    () => key.equals(other),
    () => other.equals(key),
    () => key.clone(),
  ]) {
    let error: unknown
    try {
      use()
    } catch (thrown) {
      error = thrown
    }
    expect(error).toMatchObject({ code: 'ERR_CLOSED' })
    expect(isZeroedKey(error)).toBe(true)
  }
  key[Symbol.dispose]() // twice does no harm
})

it('clones to a key with a life of its own', () => {
  const key = new SecretKey(randomBytes(32))
  const copy = key.clone()
  expect(copy.equals(key)).toBe(true)
  key[Symbol.dispose]()
  expect(copy.exposeBytes().some((byte) => byte !== 0)).toBe(true)
})

it('compares bytes, not objects', () => {
  const bytes = randomBytes(32)
  const other = Buffer.from(bytes)
  other[31] = (other[31] ?? 0) ^ 1
  expect(new SecretKey(Buffer.from(bytes)).equals(new SecretKey(bytes))).toBe(true)
  expect(new SecretKey(other).equals(new SecretKey(Buffer.from(bytes)))).toBe(false)
})

it('refuses any other length', () => {
  for (const length of [0, 16, 31, 33, 64])
    expect(() => new SecretKey(new Uint8Array(length))).toThrow(
      expect.objectContaining({ code: 'ERR_ARGUMENT_INVALID' }),
    )
})
