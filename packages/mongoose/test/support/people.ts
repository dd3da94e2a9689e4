import { Schema, Types } from 'mongoose'
import { beforeAll, beforeEach } from 'vitest'
import type { Clinic, LooseModel } from './clinic.ts'

type Native = Record<
  | 'bulkWrite'
  | 'deleteMany'
  | 'findOne'
  | 'findOneAndReplace'
  | 'findOneAndUpdate'
  | 'replaceOne'
  | 'updateMany'
  | 'updateOne',
  (...args: readonly unknown[]) => Promise<unknown>
>

/** A person as it is read; what a test looks at. */
interface Shown {
  readonly plan: string
  readonly ssn: string
  readonly age: number
  readonly tags: readonly string[]
  readonly marks: readonly number[]
  readonly history: readonly { readonly code: string; readonly note: string; readonly kind: string }[]
}

/** Two people with encrypted paths in every place that an update can name, as they were before each test. */
export interface People {
  readonly Person: LooseModel
  /** The collection of the model: what reaches it has not been cast. */
  readonly native: Native
  readonly id: Types.ObjectId
  readonly other: Types.ObjectId
  /** The person with `id`, as it is read. */
  one(): Promise<Shown>
  /** What is stored at a path of the person with `id`. */
  leaf(path: string): Promise<unknown>
}

export function usePeople(clinic: Clinic<'single'>): People {
  const id = new Types.ObjectId('64b000000000000000000001')
  const other = new Types.ObjectId('64b000000000000000000002')
  let made: LooseModel | undefined
  const person = () => {
    if (made === undefined) throw new Error('the people exist only in hooks and tests')
    return made
  }
  beforeAll(async () => {
    made = clinic.model(personSchema())
    await made.init()
  })
  beforeEach(async () => {
    const [ada, bob] = people(clinic)
    await person().deleteMany({})
    await person().create([
      { _id: id, ...ada },
      { _id: other, ...bob },
    ])
  })
  return {
    get Person() {
      return person()
    },
    get native() {
      return person().collection as unknown as Native // it has the driver's methods
    },
    id,
    other,
    one: () => person().findById(id).lean(),
    async leaf(path) {
      const stored = (await clinic.stored(person())).find(({ _id }) => id.equals(_id as Types.ObjectId))
      return path.split('.').reduce<unknown>((value, name) => Reflect.get(Object(value), name), stored)
    },
  }
}

const people = ({ secret }: Clinic<'single'>) =>
  [
    {
      plan: 'basic',
      email: secret('ada@example.org'),
      ssn: secret('ssn-of-ada'),
      age: 36,
      tags: [secret('tag-red'), secret('tag-blue'), secret('tag-red-ish')],
      history: [
        { code: secret('code-flu'), note: secret('note-flu'), kind: 'x' },
        { code: secret('code-cold'), note: secret('note-cold'), kind: 'y' },
        { code: 'code-flu', note: secret('note-flu-again'), kind: 'z' },
      ],
      phones: { work: secret('phone-work') },
      address: { street: secret('Main Street'), city: 'London' },
    },
    { plan: 'basic', email: secret('bob@example.org'), ssn: secret('ssn-of-bob'), age: 50 },
  ] as const

const personSchema = () =>
  new Schema({
    plan: String,
    plain: [{ kind: String }],
    email: { type: String, encrypted: { blindIndex: { normalize: 'email', unique: true } } },
    ssn: { type: String, encrypted: true },
    age: { type: Number, encrypted: true },
    born: { type: Date, encrypted: true },
    tags: [{ type: String, encrypted: { blindIndex: true } }],
    marks: [{ type: Number, encrypted: true }],
    history: [
      {
        _id: false,
        code: { type: String, encrypted: { blindIndex: true } },
        note: { type: String, encrypted: true },
        times: { type: Number, encrypted: true },
        kind: String,
      },
    ],
    phones: { type: Map, of: { type: String, encrypted: true } },
    address: { street: { type: String, encrypted: true }, city: String },
    prefs: { type: Schema.Types.Mixed, encrypted: true },
    nickname: { type: String, encrypted: { blindIndex: true } },
  })
