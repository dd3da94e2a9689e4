import { hasMongo } from '@fieldseal/servers/vitest'
import { Mongoose, Schema } from 'mongoose'
import { describe, expect, it } from 'vitest'
import { fieldsealPlugin } from '../src/index.ts'
import { useClinic, type LooseModel } from './support/clinic.ts'

const sealed = (index = false) => ({ type: String, encrypted: index ? { blindIndex: true } : true })

describe.runIf(hasMongo())('discriminators', () => {
  const clinic = useClinic({ tenancy: 'multi' })
  const run = <R>(work: () => R): R => clinic.fieldseal.runAs({ tenant: 'clinic-7' }, work)
  let made = 0
  const base = (more: object = {}) => {
    const schema = new Schema({ clinicId: String, name: String, ...more }, {
      discriminatorKey: 'kind',
      encrypted: { tenantBy: 'clinicId' },
    } as never)
    return { schema, name: `Person${++made}` }
  }

  it('each kind has encrypted paths of its own, in one collection', async () => {
    const { schema, name } = base({ email: sealed(true) })
    const Person = clinic.model(schema, name)
    const Doctor = Person.discriminator(`${name}Doctor`, new Schema({ licence: sealed(true), level: Number }))
    const Patient = Person.discriminator(`${name}Patient`, new Schema({ ssn: sealed() }))
    await run(async () => {
      await Doctor.create({
        clinicId: 'clinic-7',
        name: 'who',
        email: clinic.secret('who@example.org'),
        licence: clinic.secret('licence-42'),
      } as never)
      await Patient.create({
        clinicId: 'clinic-7',
        name: 'ada',
        email: clinic.secret('ada@example.org'),
        ssn: clinic.secret('ssn-of-ada'),
      } as never)
      const mine = { clinicId: 'clinic-7' } as never
      expect(await Person.find(mine).sort({ name: 1 }).lean()).toMatchObject([
        { ssn: 'ssn-of-ada' },
        { licence: 'licence-42' },
      ])
      expect(await Person.find(mine).sort({ name: 1 })).toMatchObject([
        { ssn: 'ssn-of-ada' },
        { licence: 'licence-42' },
      ])
      expect(await Doctor.findOne({ licence: 'licence-42' } as never)).toMatchObject({ email: 'who@example.org' })
      expect(await Patient.findOne({ email: 'who@example.org' } as never)).toBeNull()
      expect(await Person.findOne({ email: 'ada@example.org' } as never)).toMatchObject({ ssn: 'ssn-of-ada' })
      await Doctor.updateOne(
        { email: 'who@example.org' } as never,
        { $set: { licence: clinic.secret('licence-43') } } as never,
      )
      await Person.insertMany([
        { kind: `${name}Patient`, clinicId: 'clinic-7', name: 'bob', ssn: clinic.secret('ssn-of-bob') },
      ] as never)
      expect(await Doctor.aggregate([{ $match: { licence: 'licence-43' } }])).toMatchObject([
        { email: 'who@example.org' },
      ])
      expect(await Patient.countDocuments(mine)).toBe(2)
      await expect(
        Person.find({ ssn: 'ssn-of-ada' } as never)
          .setOptions({ strictQuery: false })
          .exec(),
      ).rejects.toMatchObject({
        details: { reason: 'not-searchable' },
      })
    })
  })

  it('a late kind of a base with encrypted paths is searchable, and the base opens it', async () => {
    const { schema, name } = base({ email: sealed(true) })
    const Person = clinic.model(schema, name)
    await run(() => Person.create({ clinicId: 'clinic-7', name: 'eve', email: clinic.secret('eve@example.org') }))
    const Nurse = Person.discriminator(`${name}Nurse`, new Schema({ badge: sealed(true) }))
    await run(() => Nurse.create({ clinicId: 'clinic-7', name: 'joy', badge: clinic.secret('badge-1') } as never))
    const made = run(
      () =>
        [
          Nurse.findOne({ badge: 'badge-1' } as never),
          Person.find({ clinicId: 'clinic-7' } as never).sort({ name: 1 }),
        ] as const,
    )
    expect(await made[0]).toMatchObject({ name: 'joy' })
    expect(await made[1]).toMatchObject([{ email: 'eve@example.org' }, { badge: 'badge-1' }])
  })

  it('a path that is encrypted in one kind and plain in another is refused', () => {
    const { schema, name } = base({ email: sealed() })
    const Person = clinic.model(schema, name)
    Person.discriminator(`${name}Doctor`, new Schema({ code: sealed() }))
    expect(() => Person.discriminator(`${name}Patient`, new Schema({ code: String }))).toThrow(
      expect.objectContaining({ code: 'ERR_CONFIG_INVALID', details: expect.objectContaining({ field: 'code' }) }),
    )
  })
  it('a path that is searchable in one kind and not in another is refused', () => {
    const { schema, name } = base({ email: sealed() })
    const Person = clinic.model(schema, name)
    Person.discriminator(`${name}Doctor`, new Schema({ code: sealed() }))
    expect(() => Person.discriminator(`${name}Patient`, new Schema({ code: sealed(true) }))).toThrow(
      expect.objectContaining({ code: 'ERR_CONFIG_INVALID' }),
    )
  })
  it('a discriminator key cannot be encrypted', () => {
    const schema = new Schema({ clinicId: String, kind: sealed() }, {
      discriminatorKey: 'kind',
      encrypted: { tenantBy: 'clinicId' },
    } as never)
    expect(() => clinic.model(schema)).toThrow(expect.objectContaining({ code: 'ERR_CONFIG_INVALID' }))
  })

  it('embedded kinds have encrypted paths of their own', async () => {
    const { schema, name } = base({ email: sealed() })
    const event = () => new Schema({ at: Number }, { discriminatorKey: 'type', _id: false })
    schema.add({ events: [event()], last: event() } as never)
    const events = schema.path('events') as never as { discriminator(name: string, schema: Schema): unknown }
    events.discriminator('Call', new Schema({ phone: sealed(true) }, { _id: false }))
    events.discriminator('Visit', new Schema({ reason: sealed(), room: Number }, { _id: false }))
    const last = schema.path('last') as never as { discriminator(name: string, schema: Schema): unknown }
    last.discriminator('Call', new Schema({ phone: sealed() }, { _id: false }))
    const Person = clinic.model(schema, name)
    await run(async () => {
      await Person.create({
        clinicId: 'clinic-7',
        name: 'ada',
        events: [
          { type: 'Call', at: 1, phone: clinic.secret('phone-1234') },
          { type: 'Visit', at: 2, reason: clinic.secret('flu and fever'), room: 3 },
        ],
        last: { type: 'Call', phone: clinic.secret('phone-9876') },
      })
      const found = await Person.findOne({ 'events.phone': 'phone-1234' } as never)
      expect(found).toMatchObject({
        events: [{ phone: 'phone-1234' }, { reason: 'flu and fever' }],
        last: { phone: 'phone-9876' },
      })
      found.events.push({ type: 'Call', phone: clinic.secret('phone-5555') })
      found.events[1].reason = clinic.secret('only a cough')
      await found.save()
      expect(
        await Person.findOne({ events: { $elemMatch: { type: 'Call', phone: 'phone-5555' } } } as never).lean(),
      ).toMatchObject({
        events: [{ phone: 'phone-1234' }, { reason: 'only a cough' }, { phone: 'phone-5555' }],
      })
    })
  })

  it('an embedded kind that is declared after the model protects its paths', async () => {
    const { schema, name } = base({ email: sealed() })
    schema.add({ events: [new Schema({ at: Number }, { discriminatorKey: 'type', _id: false })] } as never)
    const Person = clinic.model(schema, name)
    const events = Person.schema.path('events') as never as { discriminator(name: string, schema: Schema): unknown }
    events.discriminator('Call', new Schema({ phone: sealed() }, { _id: false }))
    await run(async () => {
      await Person.create({
        clinicId: 'clinic-7',
        name: 'ada',
        events: [{ type: 'Call', phone: clinic.secret('phone-4321') }],
      })
      expect(await Person.findOne({ name: 'ada', clinicId: 'clinic-7' }).lean()).toMatchObject({
        events: [{ phone: 'phone-4321' }],
      })
    })
  })

  it('the plugin of the base is enough', async () => {
    const connection = new Mongoose().createConnection()
    connection.setClient(clinic.connection.getClient())
    const { schema, name } = base({ email: sealed() })
    schema.plugin(fieldsealPlugin as never, { fieldseal: clinic.fieldseal } as never)
    const Person = connection.model(name, schema as never) as LooseModel
    const Kind = Person.discriminator(`${name}Kind`, new Schema({ ssn: sealed(true) }))
    const made = run(() => Kind.find({ ssn: 'x' } as never))
    expect(await made).toEqual([])
    await run(() => Kind.create({ clinicId: 'clinic-7', name: 'ada', ssn: clinic.secret('ssn-of-kind') } as never))
    expect(await run(() => Person.findOne({ clinicId: 'clinic-7' }).lean().exec())).toMatchObject({
      ssn: 'ssn-of-kind',
    })
  })
})

describe.runIf(hasMongo())('discriminators without tenants', () => {
  const clinic = useClinic({ tenancy: 'single' })

  it('a late kind makes a plain base protected from then on', async () => {
    const Person = clinic.model(new Schema({ name: String }, { discriminatorKey: 'kind' }), 'PlainBase')
    await Person.create({ name: 'plain' })
    const Doctor = Person.discriminator('PlainBaseDoctor', new Schema({ licence: sealed(true) }))
    await Doctor.create({ name: 'who', licence: clinic.secret('licence-99') } as never)
    expect(await Person.find().sort({ name: 1 }).lean()).toMatchObject([{ name: 'plain' }, { licence: 'licence-99' }])
    expect(await Person.findOne({ licence: 'licence-99' } as never).setOptions({ strictQuery: false })).toMatchObject({
      name: 'who',
    })
    await expect(
      clinic.fieldseal.runAs({ onUnreadable: 'mark' } as never, () => Person.find().exec()),
    ).rejects.toMatchObject({ details: { reason: 'mark-needs-lean' } })
  })
})
