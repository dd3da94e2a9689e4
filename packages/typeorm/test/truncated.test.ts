import {
  In,
  Not,
  PrimaryGeneratedColumn,
  Column,
  Entity,
  Or,
  Equal,
  NotBrackets,
  Brackets,
  ManyToOne,
  OneToMany,
} from 'typeorm'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { EncryptedColumn } from '../src/index.ts'
import { startClinic, type Clinic } from './support/clinic.ts'
import { onPglite } from './support/engine.ts'

@Entity('callers')
class Caller {
  @PrimaryGeneratedColumn() id!: number
  @Column('varchar') name!: string
  @EncryptedColumn({ blindIndex: { bits: 16 } }) phone!: string
  @OneToMany(
    () => Call,
    (call) => call.caller,
  )
  calls?: Call[]
}

@Entity('calls')
class Call {
  @PrimaryGeneratedColumn() id!: number
  @ManyToOne(
    () => Caller,
    (caller) => caller.calls,
  )
  caller!: Caller
}

onPglite('truncated indexes', (engine) => {
  let clinic: Clinic<'single'>
  beforeAll(async () => {
    clinic = await startClinic(engine, { entities: [Caller, Call], tenancy: 'single' })
    // Two rows whose tokens are equal by force, as they are by chance once in 65,536.
    const [real] = await callers().save([
      { name: 'real', phone: '100' },
      { name: 'twin', phone: '200' },
      { name: 'other', phone: '300' },
    ])
    await clinic.dataSource.query(
      `UPDATE callers SET phone_bidx = (SELECT phone_bidx FROM callers WHERE name = 'real') WHERE name = 'twin'`,
    )
    // The false hit comes first.
    await clinic.dataSource.query(`UPDATE callers SET name = name`)
    await clinic.repository(Call).save([{ caller: { id: real?.id ?? 0 } }, { caller: { id: (real?.id ?? 0) + 1 } }])
  })
  afterAll(() => clinic?.close())
  const callers = () => clinic.repository(Caller)
  const refused = { code: 'ERR_QUERY_UNSUPPORTED', details: { reason: 'truncated-index' } }

  it('rows that were found in vain are dropped after decryption', async () => {
    expect((await callers().findBy({ phone: '100' })).map(({ name }) => name)).toEqual(['real'])
    expect((await callers().findBy({ phone: In(['100', '300']) })).map(({ name }) => name).toSorted()).toEqual([
      'other',
      'real',
    ])
    expect(await callers().findBy({ phone: '200' })).toEqual([])
    expect(await callers().findAndCountBy({ phone: '100' })).toMatchObject([[{ name: 'real' }], 1])
    expect(
      await callers().createQueryBuilder('c').where({ phone: '100' }).andWhere('c.name = :n', { n: 'real' }).getMany(),
    ).toHaveLength(1)
    expect(await callers().find({ where: { phone: '100' }, select: { name: true } })).toMatchObject([{ name: 'real' }])
  })

  it('one row is looked for among all hits', async () => {
    expect(await callers().findOneBy({ phone: '100' })).toMatchObject({ name: 'real' })
    expect(await callers().findOne({ where: { phone: '100' }, order: { name: 'DESC' } })).toMatchObject({
      name: 'real',
    })
    expect(await callers().findOneBy({ phone: '400' })).toBeNull()
  })

  it('through joins too', async () => {
    expect(
      await clinic.repository(Call).find({ where: { caller: { phone: '100' } }, relations: { caller: true } }),
    ).toMatchObject([{ caller: { name: 'real' } }])
    expect(await clinic.repository(Call).findBy({ caller: { phone: '100' } })).toHaveLength(1)
  })

  it.each<[string, () => Promise<unknown>]>([
    ['count', () => callers().countBy({ phone: '100' })],
    ['exists', () => callers().existsBy({ phone: '100' })],
    ['count with options', () => callers().count({ where: { name: 'real', phone: '100' } })],
    ['getCount', () => callers().createQueryBuilder('c').where({ phone: '100' }).getCount()],
    ['getExists', () => callers().createQueryBuilder('c').where({ phone: '100' }).getExists()],
    ['count through a join', () => clinic.repository(Call).countBy({ caller: { phone: '100' } })],
    ['a page and its count', () => callers().findAndCount({ where: { phone: '100' }, take: 1 })],
    ['sum', () => callers().sum('id', { phone: '100' })],
    ['paging', () => callers().find({ where: { phone: '100' }, take: 2 })],
    ['limits', () => callers().createQueryBuilder('c').where({ phone: '100' }).limit(1).getMany()],
    ['Not', () => callers().findBy({ phone: Not('100') })],
    ['Or', () => callers().findBy({ phone: Or(Equal('100'), Equal('200')) })],
    ['alternatives', () => callers().findBy([{ phone: '100' }, { name: 'x' }])],
    [
      'orWhere',
      () => callers().createQueryBuilder('c').where({ phone: '100' }).orWhere('c.name = :n', { n: 'x' }).getMany(),
    ],
    [
      'alternatives in brackets',
      () =>
        callers()
          .createQueryBuilder('c')
          .where(new Brackets((q) => q.where({ phone: '100' }).orWhere({ name: 'x' })))
          .getMany(),
    ],
    [
      'NotBrackets',
      () =>
        callers()
          .createQueryBuilder('c')
          .where(new NotBrackets((q) => q.where({ phone: '100' })))
          .getMany(),
    ],
    ['raw reads', () => callers().createQueryBuilder('c').where({ phone: '100' }).getRawMany()],
    ['streams', () => callers().createQueryBuilder('c').where({ phone: '100' }).stream()],
    [
      'sub-queries',
      () =>
        callers()
          .createQueryBuilder('c')
          .whereExists(callers().createQueryBuilder('x').where({ phone: '100' }))
          .getMany(),
    ],
    ['update', () => callers().update({ phone: '100' }, { name: 'x' })],
    ['delete', () => callers().delete({ phone: '100' })],
  ])('%s is refused', async (_, run) => {
    await expect((async () => run())()).rejects.toMatchObject(refused)
  })
})
