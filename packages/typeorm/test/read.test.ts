import { once } from 'node:events'
import { inspect } from 'node:util'
import pg from 'pg'
import { decryptRaw } from '../src/index.ts'
import { And, Brackets, Equal, In, IsNull, Not, NotBrackets, Or } from 'typeorm'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { startClinic, type Clinic } from './support/clinic.ts'
import { onEachEngine } from './support/engine.ts'
import { Animal, Dog, ENTITIES, Notice, Person, Visit } from './support/entities.ts'

onEachEngine('reads', (engine) => {
  let clinic: Clinic<'single'>
  beforeAll(async () => {
    clinic = await startClinic(engine, {
      entities: ENTITIES,
      tenancy: 'single',
      ...(engine.oneConnection ? {} : { dataSource: { cache: true } }),
    })
    await people().save([
      {
        email: 'ada@x.org',
        nick: 'a',
        ssn: '1',
        salary: 10,
        secret: 's',
        name: 'Ada',
        contact: { phone: '100', city: 'Rome' },
        tags: [{ label: 'vip' }],
        visits: [
          { note: 'n1', code: 'c1' },
          { note: 'n2', code: 'c2' },
        ],
      },
      {
        email: 'bob@x.org',
        nick: 'b',
        ssn: '2',
        salary: 20,
        name: 'Bob',
        contact: { phone: '200' },
        visits: [{ note: 'n3', code: 'c3' }],
      },
      { email: 'cyd@x.org', nick: null, ssn: '3', salary: null, name: 'Cyd', contact: { phone: null } },
    ])
    await clinic.repository(Dog).save({ name: 'Rex', trick: 'roll' })
    await clinic.repository(Notice).save({ email: 'plain@x.org' })
  })
  afterAll(() => clinic?.close())
  const people = () => clinic.repository(Person)
  const names = (found: readonly { name?: string | null }[]) =>
    found.map(({ name }) => name ?? '').sort((a, b) => a.localeCompare(b))

  it.each([
    ['a value', { email: 'ADA@x.org' }, ['Ada']],
    ['Equal', { nick: Equal('b') }, ['Bob']],
    ['In', { email: In(['ada@x.org', 'BOB@x.org', 'nobody@x.org']) }, ['Ada', 'Bob']],
    ['In of nothing', { email: In([]) }, []],
    ['Not, without rows whose value is null', { nick: Not('a') }, ['Bob']],
    ['Not In', { nick: Not(In(['a', 'x'])) }, ['Bob']],
    ['Not Not', { nick: Not(Not('a')) }, ['Ada']],
    ['IsNull', { nick: IsNull() }, ['Cyd']],
    ['Not IsNull', { nick: Not(IsNull()) }, ['Ada', 'Bob']],
    ['Or', { nick: Or(Equal('a'), IsNull()) }, ['Ada', 'Cyd']],
    ['And', { nick: And(Not('a'), Not('x')) }, ['Bob']],
    ['Not Or', { nick: Not(Or(Equal('a'), Equal('b'))) }, []],
    ['a number', { salary: 20 }, ['Bob']],
    ['two columns', { nick: 'a', email: 'ada@x.org' }, ['Ada']],
    ['two that no row has together', { nick: 'a', email: 'bob@x.org' }, []],
    ['alternatives', [{ nick: 'a' }, { email: 'cyd@x.org' }, { name: 'Bob' }], ['Ada', 'Bob', 'Cyd']],
    ['an embedded', { contact: { phone: '200' } }, ['Bob']],
    ['Not in an embedded', { contact: { phone: Not('200') } }, ['Ada']],
    ['a relation', { visits: { code: 'c3' } }, ['Bob']],
    ['alternatives in a relation', { visits: [{ code: 'c1' }, { code: 'c3' }] }, ['Ada', 'Bob']],
  ])('finds by %s', async (_, where, expected) => {
    const criteria = inspect(where)
    expect(names(await people().findBy(where))).toEqual(expected)
    expect(names(await people().find({ where, relations: { visits: true } }))).toEqual(expected)
    const alias = Array.isArray(where) || 'visits' in where ? undefined : people().createQueryBuilder('p').where(where)
    if (alias !== undefined) expect(names(await alias.getMany())).toEqual(expected)
    expect(await people().countBy(where)).toBe(expected.length)
    expect(await people().existsBy(where)).toBe(expected.length > 0)
    expect(inspect(where)).toBe(criteria)
  })

  it('opens rows in every kind of find', async () => {
    expect(await people().findOneBy({ email: 'ada@x.org' })).toMatchObject({
      ssn: '1',
      nick: 'a',
      contact: { phone: '100', city: 'Rome' },
    })
    expect(await people().findAndCount({ where: { nick: Not('zz') }, order: { name: 'DESC' }, take: 1 })).toMatchObject(
      [[{ name: 'Bob', ssn: '2' }], 2],
    )
    expect(
      await people().findAndCount({ select: { id: true, email: true }, take: 1, order: { name: 'ASC' } }),
    ).toMatchObject([[{ email: 'ada@x.org' }], 3])
    expect((await people().find({ order: { name: 'ASC' } })).map((person) => person.loaded)).toEqual([
      'ada@x.org',
      'bob@x.org',
      'cyd@x.org',
    ])
    expect(await people().createQueryBuilder('p').orderBy('p.name').getManyAndCount()).toMatchObject([
      [{ ssn: '1' }, { ssn: '2' }, { ssn: '3' }],
      3,
    ])
  })

  it('entities hold what was selected, and nothing of ours', async () => {
    const [one] = await people().find({ select: { ssn: true }, where: { email: 'ada@x.org' } })
    expect(Object.entries(one ?? {}).filter(([, value]) => value !== undefined)).toEqual([['ssn', '1']])
    const [whole] = await people().find({ where: { email: 'ada@x.org' } })
    expect(Object.keys(whole ?? {}).filter((key) => /bidx/.test(key))).toEqual([])
    expect(JSON.stringify(whole)).not.toContain('bidx')
    expect(whole?.secret).toBeUndefined()
    expect(
      await people().createQueryBuilder('p').addSelect('p.secret').where({ email: 'ada@x.org' }).getOne(),
    ).toMatchObject({ secret: 's', ssn: '1' })
  })

  it.each(['join', 'query'] as const)('loads relations by %s', async (relationLoadStrategy) => {
    const [ada] = await people().find({
      where: { email: 'ada@x.org' },
      relations: { visits: true, tags: true },
      relationLoadStrategy,
    })
    expect(ada?.visits?.map(({ note }) => note).toSorted()).toEqual(['n1', 'n2'])
    expect(ada?.tags).toMatchObject([{ label: 'vip' }])
    const visits = await clinic
      .repository(Visit)
      .find({ where: { code: 'c3' }, relations: { person: true }, relationLoadStrategy })
    expect(visits).toMatchObject([{ note: 'n3', person: { email: 'bob@x.org' } }])
  })

  it('pages through joined rows', async () => {
    const page = await people().find({ relations: { visits: true }, order: { name: 'ASC' }, take: 1, skip: 1 })
    expect(page).toMatchObject([{ email: 'bob@x.org', visits: [{ note: 'n3' }] }])
    const found = await people()
      .createQueryBuilder('p')
      .leftJoinAndSelect('p.visits', 'v')
      .where({ nick: In(['a', 'b']) })
      .orderBy('p.name')
      .take(1)
      .getManyAndCount()
    expect(found).toMatchObject([[{ email: 'ada@x.org', visits: [{}, {}] }], 2])
  })

  it('maps joined entities and loads relation ids', async () => {
    const mapped = await people()
      .createQueryBuilder('p')
      .leftJoinAndMapOne('p.first', Visit, 'v', 'v.personId = p.id AND v.room = 1')
      .where({ email: 'bob@x.org' })
      .getOne()
    expect(mapped).toMatchObject({ first: { note: 'n3' } })
    const [withIds] = await people().find({ where: { email: 'ada@x.org' }, loadRelationIds: { relations: ['visits'] } })
    expect(withIds?.visits).toHaveLength(2)
  })

  it('raw reads return ciphertext, and decryptRaw opens them', async () => {
    const builder = people().createQueryBuilder('p').where({ email: 'ada@x.org' })
    const raw = await builder.getRawMany<Record<string, unknown>>()
    expect(raw[0]?.['p_email']).toMatch(/^fs\./)
    expect(await decryptRaw(people(), raw)).toMatchObject([{ p_email: 'ada@x.org', p_ssn: '1', p_name: 'Ada' }])
    const rows = await clinic.dataSource.query<object[]>(`SELECT * FROM people WHERE name = 'Bob'`)
    const [opened] = await decryptRaw(people(), rows)
    expect(opened).toMatchObject({ email: 'bob@x.org', salary: 20 })
    expect(Object.keys(opened ?? {}).filter((key) => /bidx/.test(key))).toEqual([])
    await expect(
      decryptRaw(people(), await people().createQueryBuilder('p').select('p.email', 'email').getRawMany()),
    ).rejects.toMatchObject({ code: 'ERR_ARGUMENT_INVALID' })
    const both = await people()
      .createQueryBuilder('p')
      .where({ email: 'ada@x.org' })
      .getRawAndEntities<Record<string, unknown>>()
    expect(both.entities).toMatchObject([{ email: 'ada@x.org' }])
    expect(both.raw[0]?.['p_email']).toMatch(/^fs\./)
    const paged = await people()
      .createQueryBuilder('p')
      .leftJoinAndSelect('p.visits', 'v')
      .orderBy('p.name')
      .take(1)
      .getRawAndEntities<Record<string, unknown>>()
    expect(paged.raw[0]?.['v_note']).toMatch(/^fs\./)
  })

  it('streams are raw: conditions on tokens, rows of ciphertext', async () => {
    // pg-query-stream stands on the same class of node-postgres, and hands rows on as a stream.
    Object.assign(clinic.dataSource.driver, { loadStreamDependency: () => pg.Query })
    const stream = await people().createQueryBuilder('p').where({ email: 'ada@x.org' }).stream()
    const rows: Record<string, unknown>[] = []
    stream.on('row', (row: Record<string, unknown>) => rows.push(row))
    await once(stream, 'end')
    expect(rows).toHaveLength(1)
    expect(rows[0]?.['p_email']).toMatch(/^fs\./)
    expect(await decryptRaw(people(), rows, { alias: 'p' })).toMatchObject([{ p_email: 'ada@x.org' }])
    expect(clinic.wire.find('ada@x.org')).toEqual([])
  })

  it('works with aliases that TypeORM has to shorten', async () => {
    const alias = 'a_very_long_alias_that_exceeds_the_limit_of_identifiers_together_with_a_column'
    expect(await people().createQueryBuilder(alias).where({ email: 'ada@x.org' }).getOne()).toMatchObject({ ssn: '1' })
  })

  it('builders: brackets, negated brackets, conditions in any order', async () => {
    const query = () => people().createQueryBuilder('p')
    expect(names(await query().where({ nick: 'a' }).orWhere({ nick: 'b' }).getMany())).toEqual(['Ada', 'Bob'])
    expect(
      names(
        await query()
          .where(new Brackets((qb) => qb.where({ nick: 'a' }).orWhere({ nick: 'b' })))
          .andWhere('p.name = :n', { n: 'Bob' })
          .getMany(),
      ),
    ).toEqual(['Bob'])
    expect(
      names(
        await query()
          .where(new NotBrackets((qb) => qb.where({ nick: 'a' })))
          .getMany(),
      ),
    ).toEqual(['Bob'])
    expect(
      names(
        await query()
          .where(new NotBrackets((qb) => qb.where({ nick: Not('a') })))
          .getMany(),
      ),
    ).toEqual(['Ada'])
    expect(
      names(
        await query()
          .where(new NotBrackets((qb) => qb.where({ nick: In(['a']) }).orWhere({ name: 'Cyd' })))
          .getMany(),
      ),
    ).toEqual(['Bob'])
    const id = (await people().findOneByOrFail({ email: 'bob@x.org' })).id
    expect(names(await query().whereInIds(id).andWhere({ nick: 'b' }).getMany())).toEqual(['Bob'])
    expect(
      names(
        await query().innerJoin('p.visits', 'v').where('v.room = :room', { room: 1 }).andWhere({ nick: 'a' }).getMany(),
      ),
    ).toEqual(['Ada'])
    expect(names(await query().where('p.nick IS NULL').getMany())).toEqual(['Cyd'])
    expect(
      names(
        await query()
          .whereExists(
            clinic.repository(Visit).createQueryBuilder('v').where('v.personId = p.id').andWhere({ code: 'c3' }),
          )
          .getMany(),
      ),
    ).toEqual(['Bob'])
    const clone = query().where({ email: 'ada@x.org' }).clone()
    expect(names(await clone.getMany())).toEqual(['Ada'])
    expect(names(await clone.getMany())).toEqual(['Ada'])
    expect(await Promise.all([clone.getMany(), clone.getMany(), clone.getCount()])).toMatchObject([
      [{ ssn: '1' }],
      [{ ssn: '1' }],
      1,
    ])
  })

  it('single-table inheritance reads through root and child', async () => {
    expect(await clinic.repository(Animal).find()).toMatchObject([{ name: 'Rex', trick: 'roll' }])
    expect((await clinic.repository(Animal).findOneByOrFail({ name: 'Rex' })).constructor).toBe(Dog)
  })

  it('a column of the same name in a plain table is left alone', async () => {
    expect(
      await clinic
        .repository(Notice)
        .createQueryBuilder('n')
        .where('n.email = :e', { e: 'plain@x.org' })
        .orderBy('n.email')
        .getMany(),
    ).toHaveLength(1)
    const joined = people()
      .createQueryBuilder('p')
      .leftJoin(Notice, 'n', 'n.email = :e', { e: 'plain@x.org' })
      .where('n.email LIKE :like', { like: 'plain%' })
    expect(await joined.getCount()).toBe(3)
  })

  it('preload, merge and reload keep plaintext', async () => {
    const { id } = await people().findOneByOrFail({ email: 'bob@x.org' })
    expect(await people().preload({ id, name: 'Bob' })).toMatchObject({ email: 'bob@x.org', ssn: '2' })
    expect(people().merge(people().create({ email: 'q@x.org' }), { ssn: '9' })).toMatchObject({
      email: 'q@x.org',
      ssn: '9',
    })
  })

  it('what is printed of a builder shows no values', async () => {
    const builder = people()
      .createQueryBuilder('p')
      .where({ email: 'ada@x.org', nick: In(['a', 'zz-canary']) })
    const [sql, parameters] = builder.getQueryAndParameters()
    expect(sql).not.toContain('fieldseal')
    expect(inspect(builder, { depth: 12 }) + inspect(parameters) + JSON.stringify(parameters)).not.toMatch(
      /ada@x|canary/,
    )
    expect(() => String(parameters[0])).toThrow(/ERR_PLAINTEXT_BLOCKED/)
    expect(() => Number(parameters[0])).toThrow(/ERR_PLAINTEXT_BLOCKED/)
    const runner = clinic.dataSource.createQueryRunner()
    try {
      const client = (await runner.connect()) as { query(sql: string, parameters: unknown[]): Promise<unknown> }
      await expect(client.query('SELECT $1::text', [parameters[0]])).rejects.toMatchObject({
        code: 'ERR_PLAINTEXT_BLOCKED',
      })
    } finally {
      await runner.release()
    }
    expect(clinic.wire.find('ada@x.org')).toEqual([])
  })

  it('redacts criteria of errors, and keeps their keys', async () => {
    const failure: unknown = await people()
      .findOneByOrFail({ email: 'missing-canary@x.org', name: 'N', contact: { phone: 'phone-canary' } })
      .catch((error: unknown) => error)
    expect(failure).toMatchObject({
      name: 'EntityNotFoundError',
      criteria: { email: '[redacted]', name: 'N', contact: { phone: '[redacted]' } },
    })
    const others = [
      await people()
        .findOneOrFail({ where: [{ visits: { code: 'missing-canary' } }] })
        .catch((error: unknown) => error),
      await people()
        .createQueryBuilder('p')
        .where({ email: 'missing-canary' })
        .getOneOrFail()
        .catch((error: unknown) => error),
    ]
    for (const error of [failure, ...others])
      expect(inspect(error, { depth: 9 }) + JSON.stringify(error) + String(error)).not.toMatch(/canary/)
    expect(others.map((error) => Reflect.get(Object(error), 'name'))).toEqual([
      'EntityNotFoundError',
      'EntityNotFoundError',
    ])
  })

  it.skipIf(engine.oneConnection)('the result cache holds ciphertext, keyed by tokens', async () => {
    await clinic.dataSource.query('TRUNCATE "query-result-cache"')
    const find = (email: string) => people().find({ where: { email }, cache: 60_000 })
    expect(names(await find('ada@x.org'))).toEqual(['Ada'])
    expect(names(await find('bob@x.org'))).toEqual(['Bob'])
    clinic.wire.take(/./)
    const again = await find('ADA@x.org')
    expect(again).toMatchObject([{ email: 'ada@x.org', ssn: '1', contact: { phone: '100' } }])
    expect(clinic.wire.take(/FROM "people"/)).toEqual([])
    const cached = await clinic.dataSource.query<object[]>('SELECT * FROM "query-result-cache"')
    expect(cached).toHaveLength(2)
    expect(JSON.stringify(cached)).not.toMatch(/ada@x|bob@x|"100"/)
    expect(clinic.wire.find('ada@x.org')).toEqual([])
  })

  it('a token copied beside another value is noticed', async () => {
    await clinic.dataSource.query(
      `UPDATE people SET nick_bidx = (SELECT nick_bidx FROM people WHERE name = 'Ada') WHERE name = 'Bob'`,
    )
    await expect(people().findBy({ nick: 'a' })).rejects.toMatchObject({ code: 'ERR_TOKEN_MISMATCH', kind: 'corrupt' })
    await expect(people().findBy([{ name: 'Cyd' }, { nick: 'a' }])).rejects.toMatchObject({
      code: 'ERR_TOKEN_MISMATCH',
    })
    await expect(people().find({ where: { nick: 'a' }, select: { name: true } })).rejects.toMatchObject({
      code: 'ERR_TOKEN_MISMATCH',
    })
    // What opens no value cannot notice it.
    expect(await people().countBy({ nick: 'a' })).toBe(2)
    expect(await people().existsBy({ nick: 'a' })).toBe(true)
    await people().update({ name: 'Bob' }, { nick: 'b' })
    expect(names(await people().findBy({ nick: 'a' }))).toEqual(['Ada'])
    expect(await people().countBy({ nick: 'a' })).toBe(1)
  })

  it.each([
    ['another column', `UPDATE people SET ssn = nick WHERE name = 'Bob'`],
    ['another row', `UPDATE people SET ssn = (SELECT ssn FROM people WHERE name = 'Ada') WHERE name = 'Bob'`],
    ['flipped bits', `UPDATE people SET ssn = substr(ssn, 1, length(ssn) - 4) || 'AAAA' WHERE name = 'Bob'`],
  ])('a cell from %s is refused', async (_, attack) => {
    const original = await clinic.dataSource.query<{ ssn: string }[]>(`SELECT ssn FROM people WHERE name = 'Bob'`)
    await clinic.dataSource.query(attack)
    await expect(people().findBy({ name: 'Bob' })).rejects.toMatchObject({ kind: 'corrupt' })
    await clinic.dataSource.query(`UPDATE people SET ssn = $1 WHERE name = 'Bob'`, [original[0]?.ssn])
    expect(await people().findOneByOrFail({ name: 'Bob' })).toMatchObject({ ssn: '2' })
  })

  it('plaintext or NULL where only an envelope may stand is an error', async () => {
    await clinic.dataSource.query(`UPDATE people SET veiled = NULL WHERE name = 'Bob'`)
    await expect(people().findBy({ name: 'Bob' })).rejects.toMatchObject({ code: 'ERR_PLAINTEXT_FOUND' })
    await people().update({ name: 'Bob' }, { veiled: null })
    expect(await people().findOneByOrFail({ name: 'Bob' })).toMatchObject({ veiled: null })
  })
})
