import { isFieldsealError } from '@fieldseal/core'
import { hasMongo } from '@fieldseal/servers/vitest'
import fc from 'fast-check'
import mongoose from 'mongoose'
import { beforeAll, describe, expect, it } from 'vitest'
import { useClinic } from './support/clinic.ts'
import {
  CANARY,
  documents,
  documentsOf,
  idIn,
  operation,
  outcomeOf,
  perform,
  shapeOf,
} from './support/operations-twin.ts'
import { twinsOf, usePlainConnection, type Twins } from './support/twin.ts'

const LANES = 8
/** Each major runs other sequences; most of them the newest. */
const SEQUENCES = mongoose.version.startsWith('9.') ? 1000 : 200

describe.runIf(hasMongo())('random work on an encrypted model and on a plain one', () => {
  const clinic = useClinic({ tenancy: 'single', connect: { maxPoolSize: LANES } })
  const past = usePlainConnection()
  let twins: Twins
  beforeAll(async () => {
    clinic.secret(CANARY)
    twins = twinsOf(clinic, past, shapeOf)
    await twins.insert([])
  })

  async function alike(lane: number): Promise<void> {
    const [sealed, plain] = await Promise.all([twins.sealed, twins.plain].map((model) => documentsOf(model, lane)))
    expect(sealed).toEqual(plain)
  }

  it('ends in the same results and the same documents, or is refused and changes nothing', {
    timeout: 120_000,
  }, async () => {
    const seed = Math.floor(Math.random() * 2 ** 31)
    let lane = 0
    const counts = { done: 0, refused: 0, failed: 0, partial: 0 }
    const property = fc.asyncProperty(
      documents,
      fc.array(operation, { minLength: 1, maxLength: 3 }),
      async (first, work) => {
        const own = ++lane // documents of an earlier sequence are out of reach
        const { sealed, plain } = twins
        const begun = first.map((document, at) => ({ ...document, _id: idIn(own, at + 1), lane: own }))
        await Promise.all([sealed, plain].map((model) => model.insertMany(begun as never)))
        for (const each of work) {
          const got = await outcomeOf(() => perform(sealed, own, each))
          counts[got.kind]++
          if (got.kind === 'refused') {
            expect(isFieldsealError(got.error) && got.error.kind).toBe('refused')
            await alike(own)
            continue
          }
          if (got.kind === 'partial') return
          const expected = await outcomeOf(() => perform(plain, own, each))
          expect(got.kind, String(got.error ?? expected.error)).toBe(expected.kind)
          if (got.kind === 'done') expect(got.result).toEqual(expected.result)
        }
        await alike(own)
      },
    )
    await Promise.all(
      Array.from({ length: LANES }, async (_, at) => {
        await fc.assert(property, { numRuns: SEQUENCES / LANES, seed: seed + at })
      }),
    )
    expect(counts.refused).toBeLessThan(counts.done)
  })
})
