import { Schema, Types, type mongo } from 'mongoose'
import { beforeAll, beforeEach } from 'vitest'
import type { Clinic, LooseModel } from './clinic.ts'

type Native = Record<
  'deleteMany' | 'replaceOne' | 'updateMany' | 'updateOne',
  (...args: readonly unknown[]) => Promise<unknown>
>

/** A patient of tenant `a` and one of tenant `b`, as they were before each test. */
export interface Patients {
  readonly Patient: LooseModel
  /** The collection of the model: what reaches it has not been cast. */
  readonly native: Native
  readonly aId: Types.ObjectId
  readonly bId: Types.ObjectId
  readonly as: <R>(tenant: string, run: () => R) => R
  readonly system: <R>(run: () => R) => R
  readonly storedOf: (tenant: string) => Promise<mongo.Document[]>
}

export function usePatients(clinic: Clinic<'multi'>): Patients {
  const [aId, bId] = [new Types.ObjectId('64b00000000000000000000a'), new Types.ObjectId('64b00000000000000000000b')]
  const as = <R>(tenant: string, run: () => R) => clinic.fieldseal.runAs({ tenant }, run)
  let made: LooseModel | undefined
  const patient = () => {
    if (made === undefined) throw new Error('the patients exist only in hooks and tests')
    return made
  }
  beforeAll(async () => {
    made = clinic.model(patientSchema())
    await as('a', () => patient().init())
  })
  beforeEach(async () => {
    const { secret } = clinic
    for (const tenant of ['a', 'b', 'c']) await as(tenant, () => patient().deleteMany({}))
    // That of the other tenant comes first.
    const b = { email: secret('b@example.org'), ssn: secret('ssn-of-b'), tags: [secret('tag-b')] }
    await as('b', () => patient().create({ _id: bId, clinicId: 'b', plan: 'basic', age: 1, ...b }))
    const a = {
      email: secret('a@example.org'),
      ssn: secret('ssn-of-a'),
      tags: [secret('tag-a')],
      login: secret('login-a'),
    }
    await as('a', () => patient().create({ _id: aId, clinicId: 'a', plan: 'basic', age: 1, ...a }))
  })
  return {
    get Patient() {
      return patient()
    },
    get native() {
      return patient().collection as unknown as Native // it has the driver's methods
    },
    aId,
    bId,
    as,
    system: (run) => clinic.fieldseal.runAsSystem({ reason: 'test' }, run),
    storedOf: async (tenant) => (await clinic.stored(patient())).filter(({ clinicId }) => clinicId === tenant),
  }
}

function patientSchema() {
  return new Schema(
    {
      clinicId: { type: String, required: true },
      plan: String,
      visits: Number,
      email: { type: String, encrypted: { blindIndex: { normalize: 'email', unique: true } } },
      login: { type: String, encrypted: { blindIndex: { unique: true, acrossTenants: true } } },
      ssn: { type: String, encrypted: true },
      age: { type: Number, encrypted: true },
      tags: [{ type: String, encrypted: { blindIndex: true } }],
    },
    { encrypted: { tenantBy: 'clinicId' } },
  )
}
