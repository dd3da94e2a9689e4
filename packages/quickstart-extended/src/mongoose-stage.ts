import { createHash } from 'node:crypto'
import { createFieldseal, type TenantKeys } from '@fieldseal/core'
import { fieldsealPlugin, mongoKeyStore } from '@fieldseal/mongoose'
import { CACHE, type Patient, type Stage } from '@fieldseal/quickstart'
import { recordingProxy } from '@fieldseal/servers'
import mongoose, { Schema, type InferSchemaType } from 'mongoose'

/** A patient of one of several clinics in one collection. What identifies a person is encrypted; the rest is plain. */
function patientSchema() {
  return new Schema(
    {
      clinicId: { type: String, required: true },
      ward: { type: String, required: true },
      email: { type: String, required: true, encrypted: { blindIndex: { normalize: 'email', unique: true } } },
      name: { type: String, required: true, encrypted: true },
      born: { type: String, required: true, encrypted: true },
      diagnosis: { type: String, default: null, encrypted: true },
    },
    { collection: 'patients', encrypted: { tenantBy: 'clinicId' } },
  )
}

/** Mongoose on a server at `uri`, whose traffic is recorded on the way. */
export async function openMongooseStage(uri: string, registry: ReadonlyMap<string, TenantKeys>): Promise<Stage> {
  const proxy = await recordingProxy(uri)
  const own = new mongoose.Mongoose()
  const fieldseal = createFieldseal({
    app: 'quickstart',
    tenancy: 'multi',
    keyStore: mongoKeyStore(uri),
    cache: CACHE,
    keys: async (tenant) => registry.get(tenant) ?? null,
  })
  const schema = patientSchema()
  schema.plugin(fieldsealPlugin, { fieldseal })
  const PatientModel = own.model('Patient', schema)
  await own.connect(proxy.uri, { monitorCommands: true })
  await PatientModel.init()
  const { db } = own.connection
  if (db === undefined) throw new Error('the connection has no database')
  const documents = db.collection('patients')
  const sorted = () => documents.find().sort({ clinicId: 1, ward: 1 }).toArray()
  const known = (document: Loaded): Patient => {
    const { id, clinicId, ward, email, name, born, diagnosis = null } = document
    return { id, clinicId, ward, email, name, born, diagnosis }
  }
  return {
    fieldseal,
    queryByEmail: (email) => `PatientModel.findOne({ email: '${email}' })`,
    save: async (patient) => known(await PatientModel.create(patient)),
    readAll: async (clinicId) => (await PatientModel.find({ clinicId }).sort({ ward: 1 })).map(known),
    async findByEmail(email) {
      const found = await PatientModel.findOne({ email })
      return found === null ? null : known(found)
    },
    async storedRows() {
      return (await sorted()).map((document) =>
        Object.fromEntries(
          Object.entries({ ...document, id: String(document._id) }).map(([key, value]) => [key, shown(value)]),
        ),
      )
    },
    async rowVersions() {
      const digest = (document: object) =>
        createHash('sha256').update(mongoose.mongo.BSON.serialize(document)).digest('hex')
      return new Map((await sorted()).map((document) => [String(document._id), digest(document)]))
    },
    async swapNames(one, other) {
      const ids = [one, other].map((id) => new mongoose.Types.ObjectId(id))
      const found = await documents.find({ _id: { $in: ids } }).toArray()
      for (const [at, document] of found.entries())
        await documents.updateOne({ _id: document._id }, { $set: { name: found[1 - at]?.['name'] as unknown } })
    },
    traffic: () => Buffer.concat(proxy.bytesSent()),
    async close() {
      await fieldseal.close()
      await own.disconnect()
      await proxy.close()
    },
  }
}

/** A document as Mongoose loads it. */
type Loaded = { readonly id: string } & InferSchemaType<ReturnType<typeof patientSchema>>

/** Binary as base64; a searchable value is its ciphertext. */
function shown(value: unknown): string {
  const { Binary } = mongoose.mongo
  if (value instanceof Binary) return value.toString('base64')
  if (typeof value === 'object' && value !== null && 'c' in value) return shown(value.c)
  return typeof value === 'string' ? value : (JSON.stringify(value) ?? '')
}
