import type { EntityManager, SelectQueryBuilder } from 'typeorm'
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import { onEachEngine } from './support/engine.ts'
import { startClinic, type Clinic } from './support/clinic.ts'
import { Cat, Document, Dog, ENTITIES, Person, Tag, Visit } from './support/entities.ts'

type Row = { email: string; contact: object }
const CANARY = 'canary-4711@example.org'

onEachEngine('writes', (engine) => {
  let clinic: Clinic<'single'>
  beforeAll(async () => {
    clinic = await startClinic(engine, { entities: ENTITIES, tenancy: 'single' })
  })
  afterAll(() => clinic?.close())
  beforeEach(async () => {
    await clinic.dataSource.query('TRUNCATE people, visits, tags, documents, animals CASCADE')
    clinic.wire.take()
  })
  const people = () => clinic.repository(Person)
  const raw = (sql: string) => clinic.dataSource.query<Record<string, unknown>[]>(sql)

  it('save stores ciphertext and leaves plaintext in the entity', async () => {
    const saved = await people().save({ email: CANARY, ssn: 'ssn-canary', contact: { phone: 'phone-canary' } })
    expect(saved.email).toBe(CANARY)
    expect(saved.id).toMatch(/^[0-9a-f-]{36}$/)
    const [row] = await raw('SELECT * FROM people')
    expect(row?.['email']).toMatch(/^fs\.-AE/)
    expect(row?.['contactPhone']).toMatch(/^fs\.-AE/)
    expect(row?.['email_bidx']).toHaveLength(17)
    expect(row?.['email_bidx_next']).toBeNull()
    for (const canary of [CANARY, 'ssn-canary', 'phone-canary']) expect(clinic.wire.find(canary)).toEqual([])
    expect(await people().findOneByOrFail({ id: saved.id })).toMatchObject({
      email: CANARY,
      ssn: 'ssn-canary',
      contact: { phone: 'phone-canary' },
    })
  })

  it('values of one insert share one wrap, and the same value twice gives different ciphertext', async () => {
    await people().save([
      { email: 'a@x.org', ssn: 'same', contact: {} },
      { email: 'b@x.org', ssn: 'same', contact: {} },
    ])
    const rows = (await raw('SELECT email, ssn FROM people')) as { email: string; ssn: string }[]
    const wrap = (text: string) => Buffer.from(text.slice(3), 'base64url').subarray(18, 84).toString('hex')
    for (const { email, ssn } of rows) expect(wrap(email)).toBe(wrap(ssn))
    expect(new Set(rows.map(({ ssn }) => ssn)).size).toBe(2)
    expect(new Set(rows.map(({ ssn }) => wrap(ssn))).size).toBe(2)
  })

  it('keeps every type as it was', async () => {
    const values = {
      profile: { b: [1, { z: null }], a: 1 },
      salary: -0,
      active: false,
      worth: -12345678901234567890n,
      seenAt: new Date('2024-02-29T12:00:00.123Z'),
      born: '0001-01-01',
      scan: new Uint8Array([0, 255, 10]),
      veiled: null,
      nick: '',
      ssn: 'fs.-AEBlooks-like-an-envelope',
    }
    const { id } = await people().save({ email: 'types@x.org', contact: {}, ...values })
    const found = await people().findOneByOrFail({ id })
    found.scan &&= Uint8Array.from(found.scan) // a Buffer is one, and prints otherwise
    expect(found).toMatchObject(values)
    expect(Object.is(found.salary, -0)).toBe(true)
    const [row] = await raw('SELECT veiled, scan FROM people')
    expect(row?.['veiled']).toMatch(/^fs\./)
    expect(row?.['scan']).toBeInstanceOf(Buffer)
  })

  it.each([
    ['listeners: false', (p: Row) => people().save(p, { listeners: false })],
    ['insert()', (p: Row) => people().insert(p)],
    ['insert() of many', (p: Row) => people().insert([p, { email: 'other@x.org', contact: {} }])],
    ['a builder', (p: Row) => people().createQueryBuilder().insert().values(p).execute()],
    [
      'a builder without listeners',
      (p: Row) => clinic.dataSource.createQueryBuilder().insert().into(Person).values(p).callListeners(false).execute(),
    ],
    [
      'a builder by table name',
      (p: Row) => clinic.dataSource.createQueryBuilder().insert().into('people').values(p).execute(),
    ],
    ['orIgnore', (p: Row) => people().createQueryBuilder().insert().values(p).orIgnore().execute()],
    ['BaseEntity-like create', (p: Row) => people().save(people().create(p))],
    ['save in chunks', (p: Row) => people().save([p, { email: 'other@x.org', contact: {} }], { chunk: 1 })],
    ['a transaction', (p: Row) => clinic.dataSource.transaction((manager) => manager.save(Person, p))],
  ])('%s stores ciphertext that is found again by its token', async (_, write) => {
    await write({ email: CANARY, contact: {} })
    expect(await people().findOneByOrFail({ email: CANARY.toUpperCase() })).toMatchObject({ email: CANARY })
    expect(clinic.wire.find(CANARY)).toEqual([])
  })

  it('a list of columns to insert brings their tokens along', async () => {
    await clinic.dataSource.createQueryBuilder().insert().into(Visit, ['code']).values({ code: 'c1' }).execute()
    expect(await clinic.repository(Visit).findOneByOrFail({ code: 'c1' })).toMatchObject({ code: 'c1', room: 1 })
  })

  it('gives a generated uuid before the insert, so that the values are bound to it', async () => {
    const entity = people().create({ email: 'a@x.org', contact: {} })
    const { identifiers } = await people().insert(entity)
    expect(identifiers).toEqual([{ id: entity.id }])
    const [row] = (await raw('SELECT id, email FROM people')) as { id: string; email: string }[]
    expect(row?.id).toBe(entity.id)
    expect(Buffer.from(row?.email.slice(3) ?? '', 'base64url')[15]).toBe(1)
  })

  it('leaves rows with an auto-increment key unbound', async () => {
    await clinic.repository(Visit).insert({ note: 'x' })
    const [row] = (await raw('SELECT note FROM visits')) as { note: string }[]
    expect(Buffer.from(row?.note.slice(3) ?? '', 'base64url')[15]).toBe(0)
    expect((await clinic.repository(Visit).find())[0]).toMatchObject({ note: 'x', room: 1 })
  })

  it('binds composite keys and takes upper-case uuids for what they are', async () => {
    await clinic.repository(Document).save({ year: 2024, number: 'A-1', title: 'one' })
    await clinic.repository(Document).update({ year: 2024, number: 'A-1' }, { body: 'text' })
    expect(await clinic.repository(Document).find()).toEqual([
      { year: 2024, number: 'A-1', title: 'one', body: 'text' },
    ])
    const rows = (await raw('SELECT title, body FROM documents')) as Record<string, string>[]
    for (const text of Object.values(rows[0] ?? {})) expect(Buffer.from(text.slice(3), 'base64url')[15]).toBe(1)
    const id = 'ABCDEFAB-0000-4000-8000-00000000000A'
    await people().insert({ id, email: 'upper@x.org', contact: {} })
    expect(await people().findOneByOrFail({ email: 'upper@x.org' })).toMatchObject({
      id: id.toLowerCase(),
      email: 'upper@x.org',
    })
    await people().update(id, { ssn: 'later' })
    expect(await people().findOneByOrFail({ id })).toMatchObject({ ssn: 'later' })
  })

  it('writes nothing when a loaded entity is saved unchanged', async () => {
    const { id } = await people().save({
      email: 'a@x.org',
      profile: { a: 1, b: [2] },
      seenAt: new Date(5),
      scan: new Uint8Array([1]),
      worth: 5n,
      contact: { phone: '1' },
    })
    const before = await raw('SELECT * FROM people')
    clinic.wire.take()
    const found = await people().findOneByOrFail({ id })
    await people().save(found)
    found.profile = { b: [2], a: 1 }
    found.seenAt = new Date(5)
    await people().save(found)
    expect(clinic.wire.take()).toEqual([])
    expect(await raw('SELECT * FROM people')).toEqual(before)
  })

  it('an encrypted change writes its column and tokens only, a plain change leaves the ciphertext', async () => {
    const { id } = await people().save({ email: 'a@x.org', ssn: '1', nick: 'n', contact: {} })
    const found = await people().findOneByOrFail({ id })
    const [before] = await raw('SELECT email, ssn, nick FROM people')
    clinic.wire.take()
    found.nick = 'm'
    await people().save(found)
    const [update] = clinic.wire.take()
    expect(update).toMatch(/SET "nick" = \$1, "nick_bidx" = \$2, "nick_bidx_next" = \$3, "version" =/)
    const again = await people().findOneByOrFail({ id })
    clinic.wire.take()
    again.name = 'Ada'
    await people().save(again)
    expect(clinic.wire.take()[0]).toMatch(/SET "name" = \$1, "version" =/)
    const [after] = await raw('SELECT email, ssn, nick FROM people')
    expect(after).toMatchObject({ email: before?.['email'], ssn: before?.['ssn'] })
    expect(after?.['nick']).not.toBe(before?.['nick'])
    expect(await people().findOneByOrFail({ nick: 'm' })).toMatchObject({ id, email: 'a@x.org', ssn: '1' })
  })

  it('null clears value and tokens', async () => {
    const found = people().create({ email: 'a@x.org', nick: 'n', contact: { phone: '1' } })
    await people().save(found)
    found.nick = null
    found.contact.phone = null
    await people().save(found)
    expect((await raw('SELECT nick, nick_bidx, "contactPhone_bidx" FROM people'))[0]).toEqual({
      nick: null,
      nick_bidx: null,
      contactPhone_bidx: null,
    })
    await people().update({ id: found.id }, { nick: 'again' })
    await people().update({ id: found.id }, { nick: null })
    expect((await raw('SELECT nick, nick_bidx FROM people'))[0]).toEqual({ nick: null, nick_bidx: null })
    expect(await people().countBy({ nick: 'again' })).toBe(0)
  })

  it('updates by id, by key criteria, by token, and all rows', async () => {
    const [a] = await people().save([
      { email: 'a@x.org', contact: {} },
      { email: 'b@x.org', contact: {} },
    ])
    await people().update(a?.id ?? '', { ssn: 'by id' })
    await people().update({ email: 'B@x.org' }, { ssn: 'by token' })
    expect(await people().find({ select: { ssn: true }, order: { version: 'ASC' } })).toMatchObject([
      { ssn: 'by id' },
      { ssn: 'by token' },
    ])
    await people()
      .createQueryBuilder()
      .update()
      .set({ ssn: 'all', email: () => '"email"' } as never)
      .execute()
      .then(
        () => expect.unreachable(),
        (error: unknown) => expect(error).toMatchObject({ code: 'ERR_WRITE_UNSUPPORTED' }),
      )
    await people().updateAll({ ssn: 'all' })
    const cells = (await raw('SELECT ssn FROM people')) as { ssn: string }[]
    expect(new Set(cells.map(({ ssn }) => ssn)).size).toBe(1)
    expect((await people().find()).map(({ ssn }) => ssn)).toEqual(['all', 'all'])
    await people()
      .createQueryBuilder()
      .update()
      .set({ contact: { phone: '55' } })
      .where({ email: 'a@x.org' })
      .execute()
    expect(await people().findOneByOrFail({ contact: { phone: '55' } })).toMatchObject({ email: 'a@x.org' })
  })

  it('an insert that names its columns without the key stores the key that its values are bound to', async () => {
    await people()
      .createQueryBuilder()
      .insert()
      .into(Person, ['email', 'ssn', 'veiled', 'version'])
      .values({ version: 1, email: 'a@x.org', ssn: '1', nick: 'left out', contact: {} })
      .execute()
    expect(await people().find()).toMatchObject([{ email: 'a@x.org', ssn: '1', nick: null }])
  })

  it.each([
    ['update', (q: SelectQueryBuilder<Person>) => q.update().set({ name: 'another' })],
    ['delete', (q: SelectQueryBuilder<Person>) => q.delete()],
    ['softDelete', (q: SelectQueryBuilder<Person>) => q.softDelete()],
  ] as const)('RETURNING of values that cannot be opened leaves nothing of the %s', async (_, start) => {
    const { id } = await people().save({ email: 'a@x.org', name: 'as before', contact: {} })
    const run = (manager: EntityManager) =>
      start(manager.createQueryBuilder(Person, 'p')).whereInIds([id]).returning(['id', 'email']).execute()
    const denied = async (manager: EntityManager) => {
      clinic.kms.deny('test-key')
      clinic.fieldseal.purge()
      await expect(run(manager)).rejects.toMatchObject({ kind: 'denied' })
      clinic.kms.restore()
      clinic.fieldseal.purge()
      const stored = await manager.findOneBy(Person, { id })
      expect(stored).toMatchObject({ name: 'as before', email: 'a@x.org', deletedAt: null })
    }
    await denied(clinic.dataSource.manager)
    await clinic.dataSource.transaction(denied)
  })

  it('RETURNING as a list is decrypted, in raw rows and generated maps', async () => {
    const inserted = await people()
      .createQueryBuilder()
      .insert()
      .values({ email: 'a@x.org', ssn: '1', contact: {} })
      .returning(['ssn', 'email'])
      .execute()
    expect(inserted.raw).toMatchObject([{ ssn: '1', email: 'a@x.org' }])
    expect(inserted.generatedMaps).toMatchObject([{ ssn: '1', email: 'a@x.org' }])
    const updated = await people()
      .createQueryBuilder()
      .update()
      .set({ ssn: '2' })
      .where({ email: 'a@x.org' })
      .returning(['ssn'])
      .execute()
    expect(updated.raw).toMatchObject([{ ssn: '2' }])
    const text = await people()
      .createQueryBuilder()
      .insert()
      .values({ email: 'b@x.org', ssn: '1', contact: {} })
      .returning('*')
      .execute()
    expect((text.raw as { ssn: string }[])[0]?.ssn).toMatch(/^fs\./)
    expect(text.generatedMaps[0]).not.toHaveProperty('ssn')
  })

  it('upserts by an encrypted unique column, insert and update alike', async () => {
    await people().upsert({ email: 'a@x.org', ssn: '1', nick: 'n', contact: {} }, ['email'])
    await people().upsert({ email: 'A@X.org', ssn: '2', contact: {} }, ['email'])
    const rows = await people().find()
    expect(rows).toMatchObject([{ email: 'A@X.org', ssn: '2', nick: 'n' }])
    await people().upsert({ id: rows[0]?.id ?? '', email: 'new@x.org', contact: {} }, ['id'])
    expect(await people().findOneByOrFail({ email: 'new@x.org' })).toMatchObject({
      id: rows[0]?.id,
      ssn: '2',
      nick: 'n',
    })
    expect(await people().countBy({ email: 'a@x.org' })).toBe(0)
  })

  it('an upsert tells the key of the row that is stored, inserted or met', async () => {
    const a = await people().save({ email: 'a@x.org', contact: {} })
    const rows = [
      { email: 'a@x.org', nick: 'met', contact: {} },
      { email: 'b@x.org', nick: 'inserted', contact: {} },
    ]
    const { identifiers } = await people().upsert(rows, ['email'])
    const b = await people().findOneByOrFail({ email: 'b@x.org' })
    expect(identifiers).toEqual([{ id: a.id }, { id: b.id }])
    expect(rows).toMatchObject(identifiers)
  })

  it('an insert that is ignored has no key, and one that is not has its own', async () => {
    const insert = () => {
      const row = { email: 'a@x.org', contact: {} }
      return { row, run: people().createQueryBuilder().insert().values(row).orIgnore().execute() }
    }
    const [first, second] = [insert(), insert()]
    const { identifiers } = await first.run
    expect(identifiers).toEqual([{ id: (await people().findOneByOrFail({ email: 'a@x.org' })).id }])
    expect((await second.run).identifiers).toEqual([undefined])
    expect(second.row).not.toHaveProperty('id')
  })

  it('an insert of several rows, some of which are ignored, names those that are stored and gives them what is theirs', async () => {
    await people().save({ email: 'b@x.org', contact: {} })
    const rows = ['a', 'b', 'c'].map((name) => ({ email: `${name}@x.org`, contact: {} }))
    const insert = people().createQueryBuilder().insert().values(rows).orIgnore()
    const { identifiers, generatedMaps } = await insert.execute()
    const [a, c] = await Promise.all(['a@x.org', 'c@x.org'].map((email) => people().findOneBy({ email })))
    expect(identifiers).toEqual([{ id: a?.id }, undefined, { id: c?.id }])
    const own = { version: 1, updatedAt: expect.any(Date) }
    expect(rows).toEqual([
      expect.objectContaining({ id: a?.id, ...own }),
      { email: 'b@x.org', contact: {} },
      expect.objectContaining({ id: c?.id, ...own }),
    ])
    expect(generatedMaps).toEqual([expect.objectContaining({ id: a?.id }), {}, expect.objectContaining({ id: c?.id })])
    const documents = clinic.repository(Document)
    const given = [1, 2, 2, 3].map((year) => ({ year, number: 'n', title: 't' }))
    await documents.insert({ ...given[0], title: 'there' } as Document)
    const ignored = await documents.createQueryBuilder().insert().values(given).orIgnore().execute()
    expect(ignored.identifiers).toEqual([undefined, { year: 2, number: 'n' }, undefined, { year: 3, number: 'n' }])
  })

  it('an insert of several rows, some of which are ignored, names none where the database makes keys', async () => {
    const visits = clinic.repository(Visit)
    await visits.save({ room: 7, note: 'there' })
    await raw('CREATE UNIQUE INDEX one_a_room ON visits (room)')
    const rows: Partial<Visit>[] = [{ room: 7 }, { room: 8, note: 'stored' }]
    const { identifiers, raw: returned } = await visits.createQueryBuilder().insert().values(rows).orIgnore().execute()
    await raw('DROP INDEX one_a_room')
    expect(returned).toHaveLength(1)
    expect(identifiers).toEqual([undefined, undefined])
    expect(rows).toEqual([{ room: 7 }, { room: 8, note: 'stored' }])
  })

  it('an insert that does not name a column whose nulls are encrypted stores a sealed null', async () => {
    const row = { email: 'a@x.org', contact: {}, veiled: 'not named' }
    await people().createQueryBuilder().insert().into(Person, ['email', 'version']).values(row).execute()
    expect(await raw('SELECT veiled FROM people')).toEqual([{ veiled: expect.stringMatching(/^fs\./) }])
    expect(await people().findOneByOrFail({ email: 'a@x.org' })).toMatchObject({ veiled: null })
  })

  it('an upsert never gives a row another key: its other values are bound to it', async () => {
    const a = await people().save({ email: 'a@x.org', ssn: '1', contact: {} })
    await people().upsert({ id: a.id, email: 'a@x.org', nick: 'same key', contact: {} }, ['email'])
    const failure = people().upsert({ id: '6b1a4ee2-6f2b-4f7e-9f0e-0d3c1f4b8a11', email: 'a@x.org', contact: {} }, [
      'email',
    ])
    await expect(failure).rejects.toMatchObject({ code: 'ERR_WRITE_UNSUPPORTED', details: { reason: 'key-change' } })
    expect(await people().find()).toMatchObject([{ id: a.id, ssn: '1', nick: 'same key' }])
  })

  it('removes, soft-removes, recovers and deletes by token', async () => {
    const a = await people().save({ email: 'a@x.org', contact: {} })
    await people().softDelete({ email: 'a@x.org' })
    expect(await people().count()).toBe(0)
    await people().restore({ email: 'a@x.org' })
    await people().softRemove(a)
    expect(await people().findOne({ where: { email: 'a@x.org' }, withDeleted: true })).toMatchObject({
      email: 'a@x.org',
    })
    await people().recover(a)
    expect(await people().countBy({ email: 'a@x.org' })).toBe(1)
    await people().delete({ email: 'a@x.org' })
    expect(await people().count({ withDeleted: true })).toBe(0)
    await people().remove(await people().save({ email: 'c@x.org', contact: {} }))
    expect(await people().count({ withDeleted: true })).toBe(0)
  })

  it('cascades insert and update', async () => {
    const person = await people().save({
      email: 'a@x.org',
      contact: {},
      visits: [{ note: 'first', code: 'c1' }],
      tags: [{ label: 'vip' }],
    })
    expect(person.visits?.[0]).toMatchObject({ note: 'first' })
    const loaded = await people().findOneOrFail({ where: { id: person.id }, relations: { visits: true, tags: true } })
    expect(loaded).toMatchObject({ visits: [{ note: 'first', code: 'c1' }], tags: [{ label: 'vip' }] })
    const [visit] = loaded.visits ?? []
    if (visit !== undefined) visit.note = 'changed'
    clinic.wire.take()
    await people().save(loaded)
    expect(clinic.wire.take()).toEqual([expect.stringMatching(/^UPDATE "visits" SET "note" = \$1 WHERE/)])
    expect(await clinic.repository(Visit).findOneByOrFail({ code: 'c1' })).toMatchObject({ note: 'changed' })
    expect(await clinic.repository(Tag).countBy({ label: 'vip' })).toBe(1)
  })

  it('single-table inheritance: children share the columns of their table', async () => {
    await clinic.repository(Dog).save({ name: 'Rex', trick: 'rolls over twice' })
    await clinic.repository(Cat).save({ name: 'Tom', lives: 9 })
    expect(await clinic.repository(Dog).findOneByOrFail({ trick: 'rolls over twice' })).toMatchObject({ name: 'Rex' })
    expect(await clinic.repository(Cat).findOneByOrFail({ name: 'Tom' })).toMatchObject({ lives: 9 })
    expect(await clinic.repository(Cat).findOneBy({ name: 'Rex' })).toBeNull()
    expect(clinic.wire.find('rolls over twice')).toEqual([])
  })

  it('a partial save leaves other columns alone, and saving the same object twice inserts once', async () => {
    const { id } = await people().save({ email: 'a@x.org', ssn: '1', contact: {} })
    await people().save({ id, nick: 'n' } as Person)
    expect(await people().findOneByOrFail({ id })).toMatchObject({ email: 'a@x.org', ssn: '1', nick: 'n' })
    const entity = people().create({ email: 'b@x.org', contact: {} })
    await people().save(entity)
    await people().save(entity)
    expect(await people().count()).toBe(2)
  })

  it('twenty saves at once', async () => {
    await Promise.all(
      Array.from({ length: 20 }, (_, i) => people().save({ email: `p${i}@x.org`, ssn: `${i}`, contact: {} })),
    )
    const found = await people().find()
    expect(found.map(({ ssn, email }) => email === `p${ssn}@x.org`)).toEqual(Array.from({ length: 20 }, () => true))
  })

  it('a failed insert leaves the entity as it was, and shows no plaintext', async () => {
    await people().save({ email: CANARY, contact: {} })
    const twin = people().create({ email: CANARY, ssn: 'ssn-canary', contact: {} })
    const failure: unknown = await people()
      .save(twin)
      .catch((error: unknown) => error)
    expect(failure).toMatchObject({ name: 'QueryFailedError', code: '23505' })
    expect(Reflect.get(Object(failure), 'detail')).toBeUndefined()
    const { inspect } = await import('node:util')
    for (const canary of [CANARY, 'ssn-canary']) {
      expect(inspect(failure, { depth: 9 }) + JSON.stringify(failure)).not.toContain(canary)
      expect(clinic.wire.find(canary)).toEqual([])
    }
    expect(twin).toMatchObject({ email: CANARY, ssn: 'ssn-canary' })
  })

  it('hand-written plaintext is refused by the table', async () => {
    const failure: unknown = await clinic.dataSource
      .query(`INSERT INTO documents (year, number, title) VALUES (1, 'n', 'plain')`)
      .catch((error: unknown) => error)
    expect(failure).toMatchObject({ name: 'QueryFailedError', code: '23514' })
    expect(JSON.stringify(failure).replaceAll("VALUES (1, 'n', 'plain')", '')).not.toContain('plain')
    await expect(
      clinic.dataSource.query(`INSERT INTO people (email, version, scan) VALUES ('fs.-AEBxx', 1, '\\x00'::bytea)`),
    ).rejects.toMatchObject({ code: '23514' })
  })

  it('schema synchronisation finds nothing to change', async () => {
    const { upQueries } = await clinic.dataSource.driver.createSchemaBuilder().log()
    expect(upQueries.map(({ query }) => query)).toEqual([])
  })
})
