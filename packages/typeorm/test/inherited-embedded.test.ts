import type { FieldState } from '@fieldseal/core/adapter'
import { fakeKms } from '@fieldseal/testkit'
import { ChildEntity, Column, Entity, Not, PrimaryGeneratedColumn, TableInheritance } from 'typeorm'
import { expect, it } from 'vitest'
import { decryptRaw, EncryptedColumn } from '../src/index.ts'
import { startClinic } from './support/clinic.ts'
import { onEachEngine } from './support/engine.ts'

/** An embedded of the root, one of a child, each with a field in place and one beside its old column. */
function build(state: FieldState) {
  class Address {
    @EncryptedColumn({ nullable: true, state, blindIndex: true }) street?: string | null
    @EncryptedColumn({
      name: 'number_sealed',
      type: 'number',
      nullable: true,
      state,
      blindIndex: true,
      plaintextIn: 'homeNumber',
    })
    number?: number | null
    @Column('int', { name: 'number', nullable: true }) old?: unknown
  }
  class Licence {
    @EncryptedColumn({ nullable: true, state, blindIndex: { normalize: 'lower' } }) code?: string | null
  }
  @Entity('people')
  @TableInheritance({ column: { type: 'varchar', name: 'kind' } })
  class Person {
    @PrimaryGeneratedColumn('uuid') id!: string
    @Column('varchar', { default: '' }) name!: string
    @Column(() => Address) home!: Address
  }
  @ChildEntity('doctor')
  class Doctor extends Person {
    @Column(() => Licence) licence!: Licence
  }
  @ChildEntity('nurse')
  class Nurse extends Person {
    @Column('varchar', { nullable: true }) ward?: string
  }
  return { Person, Doctor, Nurse }
}

onEachEngine('an embedded of single-table inheritance', (engine) => {
  const kms = fakeKms()
  const sealed = expect.stringMatching(/^fs\./) as unknown
  const token = expect.any(Uint8Array) as unknown
  async function deploy(state: FieldState) {
    const entities = build(state)
    const clinic = await startClinic(engine, {
      entities: Object.values(entities),
      tenancy: 'single',
      kms,
      fieldseal: { app: 'inherited' },
    })
    const { Person, Doctor, Nurse } = entities
    return {
      clinic,
      people: clinic.repository(Person),
      doctors: clinic.repository(Doctor),
      nurses: clinic.repository(Nurse),
      raw: () => clinic.dataSource.query('SELECT * FROM people ORDER BY name') as Promise<Record<string, unknown>[]>,
    }
  }

  it('is written, read and found through root and children', async () => {
    const { clinic, people, doctors, nurses, raw } = await deploy('encrypted')
    await clinic.dataSource.query('TRUNCATE people')
    const ada = await doctors.save({
      name: 'ada',
      home: { street: 'street-1', number: 7 },
      licence: { code: 'CODE-1' },
    })
    await nurses.insert({ name: 'bob', home: { street: 'street-2', number: 8 }, ward: 'w' })
    await people.insert({ name: 'cy', home: { street: 'street-3', number: 9 } })
    const both = {
      homeStreet: sealed,
      homeStreet_bidx: token,
      homeNumber_sealed: sealed,
      homeNumber_sealed_bidx: token,
    }
    expect(await raw()).toMatchObject([{ ...both, licenceCode: sealed, licenceCode_bidx: token }, both, both])
    expect(await doctors.findOneByOrFail({ home: { street: 'street-1' } })).toMatchObject({
      home: { street: 'street-1', number: 7 },
      licence: { code: 'CODE-1' },
    })
    expect(await doctors.findBy({ licence: { code: 'code-1' } })).toHaveLength(1)
    expect(await nurses.findBy({ home: { number: 8 } })).toMatchObject([{ home: { street: 'street-2', number: 8 } }])
    const all = await people.find({ order: { name: 'ASC' } })
    expect(all.map(({ home }) => home)).toMatchObject([
      { street: 'street-1', number: 7 },
      { street: 'street-2', number: 8 },
      { street: 'street-3', number: 9 },
    ])
    expect(all[0]).toMatchObject({ licence: { code: 'CODE-1' } })
    expect(await people.countBy({ home: { street: Not('street-1') } })).toBe(2)
    clinic.wire.take()
    await people.save(all)
    expect(clinic.wire.take()).toEqual([])
    const before = await raw()
    ada.home.street = 'street-4'
    await doctors.save(ada)
    const [after] = await raw()
    expect(after?.['homeStreet']).not.toBe(before[0]?.['homeStreet'])
    expect(after?.['homeNumber_sealed']).toBe(before[0]?.['homeNumber_sealed'])
    expect(await doctors.countBy({ home: { street: 'street-4' } })).toBe(1)
    await nurses.update({ home: { street: 'street-2' } }, { home: { street: 'street-5' } })
    await doctors.upsert({ id: ada.id, home: { street: 'street-6' }, licence: { code: null } }, ['id'])
    expect(await doctors.findOneByOrFail({ id: ada.id })).toMatchObject({
      home: { street: 'street-6', number: 7 },
      licence: { code: null },
    })
    const rows = await doctors.createQueryBuilder('d').getRawMany()
    expect(await decryptRaw(doctors, rows)).toMatchObject([{ d_homeStreet: 'street-6' }])
    await nurses.delete({ home: { street: 'street-5' } })
    expect(await people.count()).toBe(2)
    const { upQueries } = await clinic.dataSource.driver.createSchemaBuilder().log()
    expect(upQueries.map(({ query }) => query)).toEqual([])
    await clinic.close()
  })

  it('goes the way from plaintext and is seen by either build', async () => {
    const before = await deploy('plaintext')
    await before.clinic.dataSource.query('TRUNCATE people')
    await before.doctors.save({ name: 'ada', home: { street: 'street-1', number: 7 }, licence: { code: 'CODE-1' } })
    expect(await before.raw()).toMatchObject([
      { homeStreet: 'street-1', homeStreet_bidx: token, homeNumber: 7, homeNumber_sealed: null, licenceCode: 'CODE-1' },
    ])
    await before.clinic.close()
    const { clinic, doctors, people, raw } = await deploy('migrating')
    await doctors.save({ name: 'bob', home: { street: 'street-1', number: 7 }, licence: { code: 'code-1' } })
    expect((await raw())[1]).toMatchObject({
      homeStreet: sealed,
      homeNumber: null,
      homeNumber_sealed: sealed,
      licenceCode: sealed,
    })
    for (const repository of [doctors, people])
      expect(await repository.findBy({ home: { street: 'street-1', number: 7 } })).toMatchObject([
        { home: { street: 'street-1', number: 7 } },
        { home: { street: 'street-1', number: 7 } },
      ])
    await doctors.update({ home: { number: 7 } }, { home: { number: 8 } })
    expect(await raw()).toMatchObject([
      { homeNumber: null, homeNumber_sealed: sealed },
      { homeNumber: null, homeNumber_sealed: sealed },
    ])
    await clinic.close()
    const again = await deploy('plaintext')
    expect(await again.doctors.find({ order: { name: 'ASC' } })).toMatchObject([
      { home: { street: 'street-1', number: 8 }, licence: { code: 'CODE-1' } },
      { home: { street: 'street-1', number: 8 }, licence: { code: 'code-1' } },
    ])
    await again.clinic.close()
  })
})
