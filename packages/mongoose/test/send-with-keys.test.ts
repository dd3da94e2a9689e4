import { hasMongo } from '@fieldseal/servers/vitest'
import { Schema } from 'mongoose'
import { inspect } from 'node:util'
import { beforeEach, describe, expect, it } from 'vitest'
import { stateOf } from '../src/install/intercept.ts'
import { sendWithKeys, type KeyedUpdate } from '../src/record-source/send-with-keys.ts'
import { useClinic, type LooseModel } from './support/clinic.ts'
import { storedKekId } from '../src/write-path/draft.ts'

describe.runIf(hasMongo())('updates of many documents in one command', () => {
  const clinic = useClinic({ tenancy: 'single', sendsPlaintext: true, registration: { guard: 'off' } })
  const kek = storedKekId('0102030405060708090a0b0c' as never)
  let Person: LooseModel
  const raw = () => stateOf(Person.collection)?.raw ?? expect.unreachable()
  const update = (at: number, set: object, still: object = {}): KeyedUpdate => ({
    key: { id: at, owner: {}, paths: new Map(), bare: new Set(), plain: new Map(), nulls: new Map() },
    filter: { _id: at, ...still },
    update: { $set: set },
    replaced: new Set(),
    added: [kek],
  })

  beforeEach(async () => {
    Person = clinic.model(
      new Schema({ _id: Number, name: { type: String, unique: true }, ssn: { type: String, encrypted: true } }),
    )
    await Person.init()
    await Person.insertMany([0, 1, 2, 3].map((_id) => ({ _id, name: `n${_id}` })))
  })

  it('tell of each whether it was updated, had changed, or was refused', async () => {
    const updates = [
      update(0, { name: 'm0' }),
      update(1, { name: 'n2' }),
      update(2, { name: 'm2' }, { name: 'read before' }),
      update(3, { name: 'm3' }, { name: 'n3' }),
    ]
    const sent = await sendWithKeys(raw(), updates, { refusals: [11_000] })
    expect([...sent.values()]).toEqual(['updated', 'refused', 'changed', 'updated'])
    const stored = (await clinic.stored(Person)).toSorted((one, other) => Number(one['_id']) - Number(other['_id']))
    expect(stored.map(({ name }) => name)).toEqual(['m0', 'n1', 'n2', 'm3'])
    expect(stored.map((each) => each['__fieldseal']?.k)).toEqual([[kek], undefined, undefined, [kek]])
  })

  it('throw what is no refusal without the values that they carry', async () => {
    const failing = [update(0, { ssn: 'other' }), update(1, { 'name.of': 'the plaintext' })]
    const error: unknown = await sendWithKeys(raw(), failing).catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ name: 'MongoServerError', code: expect.any(Number) })
    expect(inspect(error, { depth: 20, showHidden: true })).not.toContain('the plaintext')
  })
})
