import { createFieldseal } from '@fieldseal/core'
import { fieldsealPlugin, mongoKeyStore } from '@fieldseal/mongoose'
import { fakeKms } from '@fieldseal/testkit'
import mongoose, { Schema, type Mongoose } from 'mongoose'
import type { BenchGroup } from '../harness.ts'

const WAITING = 20
const KMS_MS = 150
const ALONE = 'query alone'
const BESIDE = `query while ${WAITING} inserts wait for the KMS`

type Loose = Mongoose['models'][string]

/**
 * Whether a slow KMS keeps connections from others: a query on a pool of 2, while inserts of new tenants wait for keys
 * from a KMS that takes its time.
 */
export async function slowKmsBench(
  uri: string,
): Promise<{ readonly groups: readonly BenchGroup[]; close(): Promise<void> }> {
  const kms = fakeKms()
  const fieldseal = createFieldseal({
    app: 'slow',
    tenancy: 'multi',
    keyStore: mongoKeyStore(uri),
    keys: { cmks: [kms.cmk('slow')] },
  })
  const connect = async () => {
    const own = new mongoose.Mongoose()
    const schema = new Schema(
      { clinic: String, note: { type: String, encrypted: true } },
      { encrypted: { tenantBy: 'clinic' }, collection: 'slow_notes' },
    )
    schema.plugin(fieldsealPlugin, { fieldseal })
    const Note = own.model('Note', schema as never) as unknown as Loose // its documents have no types here
    const Plain = own.model(
      'Plain',
      new Schema({ n: Number }, { collection: 'slow_plain' }) as never,
    ) as unknown as Loose
    await own.connect(uri, { monitorCommands: true, maxPoolSize: 2 })
    return { own, Note, Plain }
  }
  const [alone, beside] = [await connect(), await connect()]
  await alone.Plain.create({ n: 1 })

  const waiting = new Set<Promise<unknown>>()
  let tenants = 0
  let failure: unknown
  function fill(): void {
    while (waiting.size < WAITING) {
      const clinic = `clinic-${tenants++}`
      const insert = fieldseal
        .runAs({ tenant: clinic }, () => beside.Note.create({ clinic, note: 'for a new tenant' }))
        .catch((error: unknown) => (failure = error))
        .finally(() => waiting.delete(insert))
      waiting.add(insert)
    }
  }

  return {
    groups: [
      {
        name: 'Mongoose and a slow KMS',
        unit: 'call',
        unitsPerRun: 1,
        floor: ALONE,
        goals: { [BESIDE]: 2 },
        async gate() {
          kms.latencyMs = KMS_MS
          const start = performance.now()
          fill()
          const [first] = waiting
          await first
          if (failure !== undefined) throw failure
          if (performance.now() - start < KMS_MS) throw new Error('the inserts do not wait for the KMS')
          await Promise.all(waiting)
        },
        cases: [
          { name: ALONE, run: () => alone.Plain.findOne({ n: 1 }).lean().exec() },
          {
            name: BESIDE,
            run: () => {
              fill()
              return beside.Plain.findOne({ n: 1 }).lean().exec()
            },
          },
        ],
      },
    ],
    async close() {
      kms.latencyMs = 0
      await Promise.all(waiting)
      await alone.own.connection.dropDatabase()
      await alone.own.disconnect()
      await beside.own.disconnect()
      await fieldseal.close()
      if (failure !== undefined) throw failure
    },
  }
}
