import { hasMongo } from '@fieldseal/servers/vitest'
import { describe, expect } from 'vitest'
import { useClinic } from './support/clinic.ts'
import { protects, refuses } from './support/operation.ts'
import { usePatients } from './support/patients.ts'

describe.runIf(hasMongo())('work across tenants', () => {
  const clinic = useClinic({ tenancy: 'multi' })
  const patients = usePatients(clinic)
  const { aId, bId, as, system, storedOf } = patients

  protects('save', 'in a system context each document is written under the keys of its own tenant', async () => {
    const all = await system(() => patients.Patient.find({}).sort('clinicId'))
    expect(all).toMatchObject([{ ssn: 'ssn-of-a' }, { ssn: 'ssn-of-b' }])
    for (const one of all) {
      one.ssn = clinic.secret(`scored-${one.clinicId}`)
      one.tags.push(clinic.secret(`tag-scored-${one.clinicId}`))
      await system(() => one.save())
    }
    await system(() => patients.Patient.create({ clinicId: 'c', email: clinic.secret('c@x.org') }))
    expect(await as('b', () => patients.Patient.findOne({ tags: 'tag-scored-b' }).lean())).toMatchObject({
      ssn: 'scored-b',
    })
    expect(await as('c', () => patients.Patient.findOne({ email: 'c@x.org' }).lean())).toMatchObject({ clinicId: 'c' })
    await system(() => patients.Patient.updateOne({ _id: aId }, { $inc: { age: 5 } }))
    await system(() => patients.Patient.updateMany({ clinicId: 'b' }, { ssn: clinic.secret('ssn-of-all-b') }))
    expect(await as('a', () => patients.Patient.findById(aId).lean())).toMatchObject({ age: 6 })
    expect(await as('b', () => patients.Patient.findById(bId).lean())).toMatchObject({ ssn: 'ssn-of-all-b' })
    await system(() => patients.Patient.bulkSave([...all].map((one) => Object.assign(one, { plan: 'bulk' }))))
    await system(async () => {
      for (const one of await patients.Patient.find({}))
        await as(one.clinicId, () => patients.Patient.updateOne({ _id: one._id }, { ssn: 'looped' }))
    })
    expect((await system(() => patients.Patient.find({}).lean())).map(({ ssn }: { ssn: string }) => ssn)).toEqual([
      'looped',
      'looped',
      'looped',
    ])
    for (const one of all) await system(() => one.deleteOne())
    expect(await clinic.stored(patients.Patient)).toHaveLength(1)
  })

  refuses('updateMany', 'across tenants', { code: 'ERR_WRITE_UNSUPPORTED', reason: 'system-context' }, () =>
    system(() => patients.Patient.updateMany({ plan: 'basic' }, { ssn: 'x' })),
  )
  refuses('updateMany', 'plain paths across tenants', { code: 'ERR_WRITE_UNSUPPORTED', reason: 'system-context' }, () =>
    system(() => patients.Patient.updateMany({}, { plan: 'x' })),
  )
  refuses(
    'updateOne',
    'one document of whatever tenant',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'system-context' },
    () => system(() => patients.Patient.updateOne({ plan: 'basic' }, { ssn: 'x' })),
  )
  refuses('updateOne upsert', 'across tenants', { code: 'ERR_WRITE_UNSUPPORTED', reason: 'system-context' }, () =>
    system(() => patients.Patient.updateOne({ plan: 'new' }, { ssn: 'x' }, { upsert: true })),
  )
  refuses('deleteMany', 'across tenants', { code: 'ERR_WRITE_UNSUPPORTED', reason: 'system-context' }, () =>
    system(() => patients.Patient.deleteMany({})),
  )
  refuses(
    'findOneAndDelete',
    'one document of whatever tenant',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'system-context' },
    () => system(() => patients.Patient.findOneAndDelete({ plan: 'basic' })),
  )
  refuses('bulkWrite', 'deletes across tenants', { code: 'ERR_WRITE_UNSUPPORTED', reason: 'system-context' }, () =>
    system(() => patients.Patient.bulkWrite([{ deleteMany: { filter: {} } }])),
  )
  refuses(
    'updateOne',
    'by a searchable path in a system context: its tokens differ by tenant',
    { code: 'ERR_QUERY_UNSUPPORTED' },
    () => system(() => patients.Patient.updateOne({ email: 'a@example.org' }, { plan: 'x' })),
  )

  protects('replaceOne', 'in a system context stays in the tenant of the new document', async () => {
    const before = await storedOf('b')
    expect(await system(() => patients.Patient.replaceOne({ _id: bId }, { clinicId: 'a', ssn: 'x' }))).toMatchObject({
      matchedCount: 0,
    })
    expect(
      await system(() =>
        patients.Patient.replaceOne({ plan: 'basic' }, { clinicId: 'a', ssn: clinic.secret('ssn-system') }),
      ),
    ).toMatchObject({ matchedCount: 1 })
    expect(await storedOf('b')).toEqual(before)
    expect(await as('a', () => patients.Patient.findById(aId).lean())).toMatchObject({ ssn: 'ssn-system' })
  })
})
