import { hasMongo } from '@fieldseal/servers/vitest'
import { Schema } from 'mongoose'
import { describe, expect } from 'vitest'
import { useClinic } from './support/clinic.ts'
import { protects, refuses } from './support/operation.ts'

describe.runIf(hasMongo())('an encrypted model', () => {
  const clinic = useClinic({ tenancy: 'single' })
  const patients = () =>
    clinic.model(
      new Schema({
        email: { type: String, encrypted: { blindIndex: { normalize: 'email', unique: true } } },
        age: { type: Number, encrypted: true },
        history: [{ at: Date, note: { type: String, encrypted: true } }],
        phones: { type: Map, of: { type: String, encrypted: true } },
        tags: [{ type: String, encrypted: { blindIndex: true } }],
        consent: { type: new Schema({ text: String, given: Date }), encrypted: true },
        address: { street: { type: String, encrypted: true }, city: String },
      }),
    )

  protects('save', 'a document of every shape comes back as it was saved, and again after changes', async () => {
    const Patient = patients()
    await Patient.init()
    const saved = await Patient.create({
      email: clinic.secret('ada@example.org'),
      age: 36,
      history: [{ at: new Date(1), note: clinic.secret('first note') }],
      phones: { work: clinic.secret('555-1234') },
      tags: [clinic.secret('tag-one'), 'tag-two'],
      consent: { text: clinic.secret('i consent'), given: new Date(2) },
      address: { street: clinic.secret('Main Street 1'), city: 'London' },
    })
    const found = await Patient.findOne({ email: ' ADA@example.org' })
    expect(found.toObject()).toEqual(saved.toObject())
    found.history[0].note = clinic.secret('second note')
    found.consent.text = clinic.secret('not any more')
    found.age += 1
    await found.save()
    expect((await Patient.findById(saved._id)).toObject()).toEqual(found.toObject())
    await Patient.updateOne({ _id: saved._id }, { $inc: { age: 3 }, $push: { tags: clinic.secret('tag-three') } })
    expect(await Patient.findById(saved._id).lean()).toMatchObject({
      age: 40,
      tags: ['tag-one', 'tag-two', 'tag-three'],
    })
  })

  refuses('find', 'a range over an encrypted path', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'not-searchable' }, () =>
    patients().find({ age: 36 }),
  )
})
