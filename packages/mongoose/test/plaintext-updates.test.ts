import { hasMongo } from '@fieldseal/servers/vitest'
import { Schema } from 'mongoose'
import { describe, expect, it } from 'vitest'
import { useStages } from './support/stages.ts'

describe.runIf(hasMongo())('updates of plaintext', () => {
  const stages = useStages('single')

  it('compute with what the filter of an upsert demands, as they do without Fieldseal', async () => {
    const deploys = stages.deploy(
      (state) =>
        new Schema(
          { _id: Number, visits: { type: Number, encrypted: { state, plaintextIn: 'visits_old', blindIndex: true } } },
          { versionKey: false },
        ) as never,
    )
    const { plaintext } = deploys
    await plaintext.create({ _id: 0, visits: 50 }) // the index has had a token
    const plain = stages.direct(deploys)
    const filters = [
      { visits: 2 },
      { $or: [{ visits: 2 }] },
      { $and: [{ visits: { $eq: 2 } }] },
      { visits: { $in: [2] } },
    ]
    let _id = 0
    for (const many of [false, true])
      for (const filter of filters)
        for (const [operator, result] of [
          ['$inc', 5],
          ['$mul', 6],
          ['$max', 3],
        ] as const) {
          const [where, update] = [{ _id: ++_id, ...filter }, { [operator]: { visits: 3 } }]
          const options = { upsert: true }
          await (many ? plaintext.updateMany(where, update, options) : plaintext.updateOne(where, update, options))
          const stored = await plain.findOne({ _id: _id as never })
          expect(stored, JSON.stringify([where, update])).toEqual({ _id, visits_old: result })
        }
  })

  it('of many documents by an operator store what is encrypted beside it, and its tokens', async () => {
    const deploys = stages.deploy(
      (state) =>
        new Schema(
          {
            _id: Number,
            visits: { type: Number, encrypted: { state } },
            mail: { type: String, encrypted: { state, plaintextIn: 'mail_old', blindIndex: true } },
            ssn: { type: String, encrypted: true },
          },
          { versionKey: false },
        ) as never,
    )
    const { plaintext } = deploys
    await plaintext.create({ _id: 1, visits: 1 })
    await plaintext.updateMany({}, { $min: { visits: 0 }, $set: { mail: 'm', ssn: 'secret' } })
    expect(await plaintext.findOne({ mail: 'm' }).lean()).toEqual({ _id: 1, visits: 0, mail: 'm', ssn: 'secret' })
    const stored = await stages.direct(deploys).findOne({})
    expect(stored).toMatchObject({ mail: { b: expect.anything() }, mail_old: 'm' })
  })
})
