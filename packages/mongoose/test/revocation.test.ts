import { fakeClock } from '@fieldseal/testkit'
import { hasMongo } from '@fieldseal/servers/vitest'
import { Schema } from 'mongoose'
import { beforeAll, describe, expect, it } from 'vitest'
import { useClinic, type LooseModel } from './support/clinic.ts'

const COUNT = 40
const BATCH = 10

describe.runIf(hasMongo())('a cursor that is open when the customer revokes its key', () => {
  const clock = fakeClock()
  const clinic = useClinic({ tenancy: 'single', fieldseal: { clock } })
  let Patient: LooseModel
  beforeAll(async () => {
    Patient = clinic.model(new Schema({ _id: Number, ssn: { type: String, encrypted: true } }))
    clinic.secret('ssn-number-')
    await Patient.insertMany(Array.from({ length: COUNT }, (_, at) => ({ _id: at, ssn: `ssn-number-${at}` })) as never)
  })

  it.each([
    ['reachable', () => clinic.kms.deny('test-key'), 'denied'],
    ['unreachable', () => clinic.kms.disconnect('test-key'), 'unavailable'],
  ] as const)(
    'gives no document of a later batch once the bound has passed, the KMS being %s',
    async (bound, end, kind) => {
      const cursor = Patient.find().sort({ _id: 1 }).lean().cursor({ batchSize: BATCH })
      try {
        expect(await cursor.next()).toMatchObject({ ssn: 'ssn-number-0' })
        end()
        clock.advance(clinic.fieldseal.revocationBoundMs()[bound])
        // What was opened with the first batch is in memory; nothing more is opened.
        const read: unknown[] = []
        const error: unknown = await (async () => {
          for (let next: unknown = await cursor.next(); next !== null; next = await cursor.next()) read.push(next)
        })().then(
          () => undefined,
          (thrown: unknown) => thrown,
        )
        expect(error).toMatchObject({ kind })
        expect(read).toHaveLength(BATCH - 1)
      } finally {
        clinic.kms.restore('test-key')
        clinic.fieldseal.purge()
        await cursor.close()
      }
      expect(await Patient.countDocuments()).toBe(COUNT)
      expect(await Patient.find()).toHaveLength(COUNT)
    },
  )
})
