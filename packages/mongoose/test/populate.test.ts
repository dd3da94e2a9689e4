import { hasMongo } from '@fieldseal/servers/vitest'
import { Schema, Types } from 'mongoose'
import { beforeAll, describe, expect } from 'vitest'
import { useClinic } from './support/clinic.ts'
import { protects, refuses } from './support/operation.ts'
import { twinsOf, usePlainConnection, type Twins } from './support/twin.ts'

const oid = (last: number) => new Types.ObjectId(`65f0000000000000000000${String(last).padStart(2, '0')}`)

describe.runIf(hasMongo())('populate', () => {
  const clinic = useClinic({ tenancy: 'single' })
  const past = usePlainConnection()
  let doctors: Twins
  let patients: Twins
  let rooms: Twins
  beforeAll(async () => {
    doctors = twinsOf(
      clinic,
      past,
      (seal) =>
        new Schema({
          rank: Number,
          name: { type: String, ...seal({ blindIndex: true }) },
          ward: { type: Schema.Types.ObjectId, ...seal({ blindIndex: true }) },
        }),
    )
    const doctor = doctors.sealed.modelName
    patients = twinsOf(clinic, past, (seal) => {
      const schema = new Schema({
        no: Number,
        ssn: { type: String, ...seal() },
        doctor: { type: Schema.Types.ObjectId, ref: doctor },
        secretDoctor: { type: Schema.Types.ObjectId, ref: doctor, ...seal() },
        doctors: [{ type: Schema.Types.ObjectId, ref: doctor }],
        doctorName: { type: String, ...seal() },
        visits: [
          {
            _id: false,
            by: { type: Schema.Types.ObjectId, ref: doctor, ...seal() },
            note: { type: String, ...seal() },
          },
        ],
      })
      schema.virtual('byName', { ref: doctor, localField: 'doctorName', foreignField: 'name', justOne: true })
      return schema
    })
    const patient = patients.sealed.modelName
    rooms = twinsOf(clinic, past, () => {
      const schema = new Schema({ no: Number, patient: { type: Schema.Types.ObjectId, ref: patient } })
      schema.virtual('staff', { ref: doctor, localField: '_id', foreignField: 'ward', options: { sort: { rank: 1 } } })
      schema.virtual('staffCount', { ref: doctor, localField: '_id', foreignField: 'ward', count: true })
      return schema
    })
    for (const text of ['doctor-who', 'doctor-no', 'doctor-jones', 'ssn-of-ada', 'ssn-of-bob', 'note-of-visit'])
      clinic.secret(text)
    await doctors.insert([
      { _id: oid(1), rank: 1, name: 'doctor-who', ward: oid(31) },
      { _id: oid(2), rank: 2, name: 'doctor-no', ward: oid(31) },
      { _id: oid(3), rank: 3, name: 'doctor-jones', ward: oid(32) },
    ])
    await patients.insert([
      {
        _id: oid(11),
        no: 1,
        ssn: 'ssn-of-ada',
        doctor: oid(1),
        secretDoctor: oid(2),
        doctors: [oid(1), oid(2), oid(3)],
        doctorName: 'doctor-jones',
        visits: [{ by: oid(3), note: 'note-of-visit' }, { by: oid(1) }],
      },
      { _id: oid(12), no: 2, ssn: 'ssn-of-bob', doctor: oid(9), doctors: [oid(3), oid(2)] },
    ])
    await rooms.insert([
      { _id: oid(31), no: 1, patient: oid(11) },
      { _id: oid(32), no: 2, patient: oid(12) },
    ])
  })

  /** All documents with something populated, the same for both twins, hydrated and lean. */
  async function populated(populate: unknown, twins = patients): Promise<Record<string, never>[]> {
    const plainly = (value: unknown) => JSON.parse(JSON.stringify(value)) as Record<string, never>[]
    const hydrated = await twins.both(async (model) =>
      (
        (await model
          .find()
          .sort({ no: 1 })
          .populate(structuredClone(populate) as never)) as unknown as { toObject(options: object): object }[]
      ).map((each) => each.toObject({ virtuals: true })),
    )
    expect(plainly(hydrated[0])).toEqual(plainly(hydrated[1]))
    const lean = await twins.both((model) =>
      model
        .find()
        .sort({ no: 1 })
        .populate(structuredClone(populate) as never)
        .lean(),
    )
    expect(plainly(lean[0])).toEqual(plainly(lean[1]))
    const read = await twins.both(async (model) => {
      const rows: unknown[] = []
      const cursor = model
        .find()
        .sort({ no: 1 })
        .populate(structuredClone(populate) as never)
        .lean()
        .cursor({ batchSize: 1 })
      for await (const row of cursor) rows.push(row)
      return rows
    })
    expect(plainly(read[0])).toEqual(plainly(read[1]))
    return lean[0] as never
  }

  protects('populate', 'a reference to encrypted documents', async () => {
    const [ada, bob] = await populated('doctor')
    expect(ada?.['doctor']).toMatchObject({ name: 'doctor-who' })
    expect(bob?.['doctor']).toBeNull()
  })
  protects('populate', 'through an encrypted ObjectId', async () => {
    expect((await populated('secretDoctor'))[0]?.['secretDoctor']).toMatchObject({ name: 'doctor-no' })
    expect((await populated('visits.by'))[0]?.['visits']).toMatchObject([
      { by: { name: 'doctor-jones' } },
      { by: { name: 'doctor-who' } },
    ])
  })
  protects('populate', 'lists, with a selection', async () => {
    expect((await populated({ path: 'doctors', select: 'name -_id' }))[1]?.['doctors']).toEqual([
      { name: 'doctor-jones' },
      { name: 'doctor-no' },
    ])
    expect(
      (await populated({ path: 'doctors', select: '-name', options: { sort: { rank: 1 } } }))[1]?.['doctors'],
    ).toHaveLength(2)
  })
  protects('populate match', 'by encrypted paths of what is populated', async () => {
    const match = { name: { $in: ['doctor-no', 'doctor-jones'] } }
    expect((await populated({ path: 'doctors', match }))[0]?.['doctors']).toHaveLength(2)
    expect((await populated({ path: 'doctor', match }))[0]?.['doctor']).toBeNull()
  })
  protects('populate perDocumentLimit', 'so many of each document', async () => {
    // Mongoose 8 gives lists of lean documents more than that, encrypted or not.
    await populated({ path: 'doctors', perDocumentLimit: 1 })
  })
  protects('populate virtual', 'by an encrypted path of the other documents', async () => {
    expect((await populated('staff', rooms))[0]?.['staff']).toMatchObject([
      { name: 'doctor-who' },
      { name: 'doctor-no' },
    ])
    expect((await populated('byName'))[0]?.['byName']).toMatchObject({ rank: 3 })
  })
  protects('populate count', 'of documents by an encrypted path', async () => {
    expect((await populated('staffCount', rooms)).map((room) => room['staffCount'])).toEqual([2, 1])
  })
  protects('populate', 'several levels, from a plain model', async () => {
    const [room] = await populated(
      { path: 'patient', populate: [{ path: 'secretDoctor' }, { path: 'visits.by' }] },
      rooms,
    )
    expect(room?.['patient']).toMatchObject({ ssn: 'ssn-of-ada', secretDoctor: { name: 'doctor-no' } })
  })
  protects('document populate', 'afterwards', async () => {
    const ada = (await patients.sealed.findOne({ no: 1 })) as unknown as {
      populate(path: string): Promise<{ secretDoctor: object }>
      depopulate(): { secretDoctor: Types.ObjectId }
    }
    expect((await ada.populate('secretDoctor')).secretDoctor).toMatchObject({ name: 'doctor-no' })
    expect(String(ada.depopulate().secretDoctor)).toBe(String(oid(2)))
    const rows = await patients.sealed.find().lean()
    await patients.sealed.populate(rows, { path: 'doctor', model: doctors.sealed })
    expect(rows[0]).toMatchObject({ doctor: { name: 'doctor-who' } })
  })
  protects('save', 'a populated encrypted reference keeps its id', async () => {
    const ada = (await patients.sealed.findOne({ no: 1 }).populate('secretDoctor')) as unknown as {
      ssn: string
      secretDoctor: unknown
      save(): Promise<unknown>
    }
    ada.ssn = clinic.secret('ssn-changed')
    await ada.save()
    expect(await patients.sealed.findOne({ no: 1 }).lean()).toMatchObject({ ssn: 'ssn-changed', secretDoctor: oid(2) })
    ada.secretDoctor = await doctors.sealed.findOne({ rank: 3 })
    await ada.save()
    expect(await patients.sealed.findOne({ no: 1 }).lean()).toMatchObject({ secretDoctor: oid(3) })
    ada.secretDoctor = oid(2)
    ada.ssn = 'ssn-of-ada'
    await ada.save()
  })
  refuses(
    'populate match',
    'by a path that cannot be asked',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'range-on-encrypted' },
    () => patients.sealed.find().populate({ path: 'doctor', match: { name: /who/ } }),
  )
  refuses('populate sort', 'by an encrypted path', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'sort-on-encrypted' }, () =>
    patients.sealed.find().populate({ path: 'doctors', options: { sort: { name: 1 } } }),
  )
})
