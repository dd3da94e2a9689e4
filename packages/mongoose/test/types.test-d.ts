// Checked by tsc alone, once with each major of Mongoose: an annotation changes no type of a model.
import type { FieldOptions, ModelOptions } from '@fieldseal/core/adapter'
import mongoose, { Schema, type HydratedDocument, type InferSchemaType } from 'mongoose'
import { decryptRaw, fieldsealPlugin, jsonSchemaTripwire, mongooseSource, redactOperation } from '../src/index.ts'

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false
const assertType = <_T extends true>(): void => {}

const plain = new Schema({
  clinicId: { type: String, required: true },
  email: { type: String, required: true },
  born: { type: Date },
  age: { type: Number, default: 0 },
  group: { type: String, enum: ['A', 'B'] as const },
  tags: [{ type: String }],
  history: [{ at: Date, note: { type: String, required: true } }],
  phones: { type: Map, of: { type: String } },
  address: { street: { type: String }, city: String },
  consent: { type: new Schema({ text: String }) },
  doctor: { type: Schema.Types.ObjectId, ref: 'Doctor' },
})
const sealed = new Schema(
  {
    clinicId: { type: String, required: true },
    email: { type: String, required: true, encrypted: { blindIndex: { normalize: 'email', unique: true } } },
    born: { type: Date, encrypted: true },
    age: { type: Number, default: 0, encrypted: { padToBytes: 8 } },
    group: { type: String, enum: ['A', 'B'] as const, encrypted: true },
    tags: [{ type: String, encrypted: { blindIndex: true } }],
    history: [{ at: Date, note: { type: String, required: true, encrypted: true } }],
    phones: { type: Map, of: { type: String, encrypted: true } },
    address: { street: { type: String, encrypted: false }, city: String },
    consent: { type: new Schema({ text: String }), encrypted: true },
    doctor: { type: Schema.Types.ObjectId, ref: 'Doctor', encrypted: { blindIndex: true } },
  },
  { encrypted: { tenantBy: 'clinicId', bindRow: 'require' } },
)

type Plain = InferSchemaType<typeof plain>
type Sealed = InferSchemaType<typeof sealed>
const [PlainModel, SealedModel] = [mongoose.model('Plain', plain), mongoose.model('Sealed', sealed)]

/** None of this runs. */
export async function types(): Promise<void> {
  assertType<Same<Sealed, Plain>>()
  assertType<Same<Sealed['group'], 'A' | 'B' | null | undefined>>()
  assertType<Same<HydratedDocument<Sealed>, HydratedDocument<Plain>>>()
  assertType<Same<Parameters<typeof SealedModel.findOne>[0], Parameters<typeof PlainModel.findOne>[0]>>()
  assertType<Same<Parameters<typeof SealedModel.updateOne>[0], Parameters<typeof PlainModel.updateOne>[0]>>()

  const hydrated = await SealedModel.findOne({ email: 'x', age: { $in: [1] }, 'history.note': 'y' }).orFail()
  hydrated.email satisfies string
  hydrated.born satisfies Date | null | undefined
  hydrated.tags[0] satisfies string | undefined
  hydrated.consent?.text satisfies string | null | undefined
  // @ts-expect-error a date is no text, encrypted or not
  hydrated.born = 5 as string

  const lean = await SealedModel.findOne({ email: 'x' }).lean().orFail()
  const leanPlain = await PlainModel.findOne({ email: 'x' }).lean().orFail()
  assertType<Same<typeof lean, typeof leanPlain>>()
  lean.age satisfies number
  // @ts-expect-error no such path
  lean.agge satisfies unknown

  const { source, rows } = {
    source: mongooseSource(mongoose.connection),
    rows: await decryptRaw(SealedModel, [{ _id: 1 }]),
  }
  source.models satisfies readonly { readonly id: string }[]
  rows satisfies Record<string, unknown>[]
  redactOperation(SealedModel, { email: 'x' }) satisfies unknown
  jsonSchemaTripwire(SealedModel) satisfies { readonly $jsonSchema: object }
}

// Annotations that say nothing about the schema type.
const field = { blindIndex: { normalize: 'email', bits: 24 } } satisfies FieldOptions
const model = { tenantBy: 'clinicId', keyspace: { per: 'email', of: 'patient' } } satisfies ModelOptions
export const reused = new Schema({ email: { type: String, encrypted: field } }, { encrypted: model })

// @ts-expect-error a slip of the pen, which Mongoose's own definition types let pass
export const slip = { blindIndex: { uniqe: true } } satisfies FieldOptions
// @ts-expect-error no such normaliser
export const normalizer = { blindIndex: { normalize: 'emial' } } satisfies FieldOptions
// @ts-expect-error a boolean or an object
export const text: NonNullable<mongoose.SchemaTypeOptions<string>['encrypted']> = 'yes'
// @ts-expect-error no such option of a model
export const option: NonNullable<mongoose.SchemaOptions['encrypted']> = { tenntBy: 'clinicId' }

export function plugins(fieldseal: Parameters<typeof fieldsealPlugin>[1]['fieldseal']): void {
  sealed.plugin(fieldsealPlugin, { fieldseal })
  mongoose.plugin(fieldsealPlugin as never, { fieldseal, guard: 'audit' })
  // @ts-expect-error no such mode
  sealed.plugin(fieldsealPlugin, { fieldseal, guard: 'on' })
  // @ts-expect-error a Fieldseal is needed
  sealed.plugin(fieldsealPlugin, {})
}
