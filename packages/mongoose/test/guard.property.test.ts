import fc from 'fast-check'
import { Schema } from 'mongoose'
import { describe, expect, it } from 'vitest'
import { checkCommand } from '../src/guard/check-command.ts'
import { buildGraph } from '../src/path-graph/build-graph.ts'
import { envelope, leaf, token } from './support/sealed.ts'

/** What may stand at an encrypted path, and what may not. */
const sealed = fc.constant(null).map(() => envelope())
const searchable = fc.constant(null).map(() => leaf())
const plaintext = fc.oneof(
  fc.string(),
  fc.integer(),
  fc.boolean(),
  fc.date(),
  fc.uint8Array({ maxLength: 100 }),
  fc.record({ c: fc.string(), b: fc.string() }),
  fc.dictionary(fc.string({ minLength: 1 }), fc.string(), { minKeys: 1 }),
)
const plain = fc.oneof(fc.string(), fc.integer(), fc.constant(null), fc.array(fc.string()))

interface Values {
  readonly note: fc.Arbitrary<unknown>
  readonly email: fc.Arbitrary<unknown>
}

const root = buildGraph([
  new Schema({
    name: String,
    email: { type: String, encrypted: { blindIndex: true } },
    tags: [{ type: String, encrypted: true }],
    history: [{ at: Date, note: { type: String, encrypted: true } }],
    phones: { type: Map, of: { type: String, encrypted: true } },
    address: { street: { type: String, encrypted: true }, city: String },
  }),
])
const key = fc.stringMatching(/^[a-z]{1,6}$/)
const nullable = (value: fc.Arbitrary<unknown>) => fc.option(value)

/** Documents with values of a kind at every encrypted path. */
const documents = ({ note, email }: Values) =>
  fc.record(
    {
      _id: fc.integer(),
      name: plain,
      email: nullable(email),
      tags: fc.array(nullable(note)),
      history: fc.array(fc.record({ at: plain, note: nullable(note) }, { requiredKeys: [] })),
      phones: fc.dictionary(key, nullable(note)),
      address: nullable(fc.record({ street: nullable(note), city: plain }, { requiredKeys: [] })),
      other: plain,
    },
    { requiredKeys: [] },
  )

/** Paths with a value of a kind, as `$set` and filters name them. */
const assignments = ({ note, email }: Values): fc.Arbitrary<Record<string, unknown>> =>
  fc.oneof(
    fc.record({ email }),
    fc.record({ 'tags.3': note }),
    fc.record({ 'tags.$[]': note }),
    fc.record({ 'history.0.note': note }),
    fc.record({ 'history.$[h].note': note }),
    key.chain((name) => fc.record({ [`phones.${name}`]: note })),
    fc.record({ 'address.street': note }),
    fc.record({ address: fc.record({ street: note }) }),
    fc.record({ history: fc.array(fc.record({ note }), { minLength: 1 }) }),
  )
const ciphertexts: Values = { note: sealed, email: searchable }
const plaintexts: Values = { note: plaintext, email: plaintext }

const check = (name: string, command: Record<string, unknown>) =>
  checkCommand(name, { [name]: 'people', ...command }, (collection) => (collection === 'people' ? root : undefined))
const isInserted = (document: unknown) => check('insert', { documents: [document] }) === undefined
const isUpdated = (u: unknown) => check('update', { updates: [{ q: {}, u }] }) === undefined
const isFound = (filter: unknown) => check('find', { filter }) === undefined

describe('the wire guard, for any document, update and filter', () => {
  it('lets every sealed document pass', () => {
    fc.assert(fc.property(documents(ciphertexts), (document) => isInserted(document) && isUpdated(document)))
  })

  it('lets no document pass that has one plaintext at an encrypted path', () => {
    const tainted = fc
      .tuple(documents(ciphertexts), fc.constantFrom('email', 'tags', 'history', 'phones', 'address'), plaintext, key)
      .map(([document, path, value, name]) => {
        const wrong = {
          email: { email: value },
          tags: { tags: [...(document.tags ?? []), value] },
          history: { history: [...(document.history ?? []), { note: value }] },
          phones: { phones: { ...document.phones, [name]: value } },
          address: { address: { city: 'x', street: value } },
        }[path]
        return { ...document, ...wrong }
      })
    fc.assert(
      fc.property(tainted, (document) => {
        expect(isInserted(document)).toBe(false)
        expect(isUpdated(document)).toBe(false)
        expect(isUpdated({ $set: document })).toBe(false)
      }),
    )
  })

  it('lets updates pass exactly when they assign ciphertext', () => {
    const operator = fc.constantFrom('$set', '$setOnInsert')
    fc.assert(fc.property(operator, assignments(ciphertexts), (name, to) => isUpdated({ [name]: to, $inc: { n: 1 } })))
    fc.assert(fc.property(operator, assignments(plaintexts), (name, to) => !isUpdated({ $inc: { n: 1 }, [name]: to })))
  })

  it('lets no operator pass that would compute or compare with an encrypted value', () => {
    const names = ['$inc', '$mul', '$min', '$max', '$bit', '$currentDate', '$pullAll', '$rename', '$push', '$pull']
    fc.assert(
      fc.property(
        fc.constantFrom(...names),
        plaintext,
        (operator, value) => !isUpdated({ [operator]: { tags: value } }),
      ),
    )
  })

  it('lets filters pass exactly when they compare with tokens, envelopes or null, however deep they stand', () => {
    const wrap = (condition: fc.Arbitrary<Record<string, unknown>>) =>
      fc
        .tuple(condition, fc.array(fc.constantFrom('$and', '$or', '$nor'), { maxLength: 3 }))
        .map(([inner, around]) =>
          around.reduce<Record<string, unknown>>((filter, name) => ({ [name]: [{ name: 'x' }, filter] }), inner),
        )
    const opaque = fc.oneof(
      fc.constant(null),
      fc.constant(null).map(() => token()),
      sealed,
      fc.record({ $exists: fc.boolean() }),
    )
    const operators = fc.constantFrom('$eq', '$ne', '$in', '$nin', '$all')
    const compared = (value: fc.Arbitrary<unknown>) =>
      fc.oneof(
        value,
        fc.tuple(operators, value).map(([operator, operand]) => ({
          [operator]: ['$eq', '$ne'].includes(operator) ? operand : [null, operand],
        })),
      )
    const paths = fc.constantFrom('email', 'email.b', 'tags', 'tags.0', 'history.note', 'phones.work', 'address.street')
    const conditions = (value: fc.Arbitrary<unknown>) =>
      wrap(fc.tuple(paths, compared(value)).map(([path, condition]) => ({ [path]: condition })))
    fc.assert(fc.property(conditions(opaque), isFound))
    fc.assert(fc.property(conditions(plaintext), (filter) => !isFound(filter)))
  })
})
