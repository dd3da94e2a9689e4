// Run as a process of its own, `seal-once.ts <uri> <name>`: writes one document and prints the id of its KEK.
import { createCipheriv, createDecipheriv } from 'node:crypto'
import { createFieldseal } from '@fieldseal/core'
import { type Cmk, contextBytes, SecretKey } from '@fieldseal/core/kms'
import mongoose, { Schema } from 'mongoose'
import { fieldsealPlugin, mongoKeyStore } from '../../src/index.ts'

const [uri = '', name = ''] = process.argv.slice(2)
/** The same in every process. */
const KEY = Buffer.alloc(32, 7)
const NONCE = Buffer.alloc(12)

const cmk: Cmk = {
  provider: 'fixed',
  uri: 'fixed:key',
  credentialScope: 'fixed',
  facts: { bindsContext: true, authenticatesWrap: true, maxBlobBytes: 48 },
  async wrap(key, { context }) {
    const cipher = createCipheriv('aes-256-gcm', KEY, NONCE).setAAD(contextBytes(context))
    const blob = Buffer.concat([cipher.update(key.exposeBytes()), cipher.final()])
    return { blob: Buffer.concat([blob, cipher.getAuthTag()]), versionEvidence: 'unknown' }
  },
  async unwrap({ blob }, { context }) {
    const bytes = Buffer.from(blob)
    const decipher = createDecipheriv('aes-256-gcm', KEY, NONCE)
      .setAAD(contextBytes(context))
      .setAuthTag(bytes.subarray(-16))
    return new SecretKey(Buffer.concat([decipher.update(bytes.subarray(0, -16)), decipher.final()]))
  },
}

const fieldseal = createFieldseal({
  app: 'two-processes',
  tenancy: 'single',
  keyStore: mongoKeyStore(uri),
  keys: { cmks: [cmk] },
})
mongoose.plugin(fieldsealPlugin, { fieldseal })
await mongoose.connect(uri, { monitorCommands: true })
const Model = mongoose.model('Sealed', new Schema({ note: { type: String, encrypted: true } }))
const { _id } = await Model.create({ note: `by ${name}` })
const stored = await mongoose.connection.db?.collection(Model.collection.collectionName).findOne({ _id })
process.stdout.write(Buffer.from(stored?.['note'].value()).toString('hex', 3, 15))
await mongoose.disconnect()
await fieldseal.close()
