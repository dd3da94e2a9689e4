import type { Field, FieldState, PlainCell, RecordMap, StoredRow } from '@fieldseal/core/adapter'
import { isPlainCell, plainCell } from '@fieldseal/core/adapter'
import { fakeKms } from '@fieldseal/testkit'
import {
  ChildEntity,
  Column,
  Entity,
  IsNull,
  Not,
  PrimaryGeneratedColumn,
  TableInheritance,
  type Repository,
} from 'typeorm'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { decryptRaw, EncryptedColumn, typeormSource } from '../src/index.ts'
import { startClinic, type Clinic } from './support/clinic.ts'
import { onEachEngine } from './support/engine.ts'

interface ThingRow {
  id: string
  place: { code?: string | null; count?: number | null }
  big?: bigint | null
  flag?: boolean | null
  raw?: Uint8Array | null
  data?: { a: number } | null
  day?: string | null
  at?: Date | null
  amount?: number | null
  nick?: string | null
  veiled?: string | null
}

const VALUES = {
  place: { code: 'c-1', count: 7 },
  big: 12_345_678_901_234_567_890n,
  flag: false,
  raw: Buffer.of(1, 2, 3),
  data: { a: 1 },
  day: '1815-12-10',
  at: new Date('1815-12-10T01:02:03.004Z'),
  amount: 0.1,
  nick: '',
} satisfies Partial<ThingRow>

/** A build with a field of every type, beside its old column. */
function build(state: FieldState) {
  class Place {
    @EncryptedColumn({ nullable: true, state }) code?: string | null
    @EncryptedColumn({
      name: 'count_sealed',
      type: 'number',
      nullable: true,
      blindIndex: true,
      state,
      plaintextIn: 'placeCount',
    })
    count?: number | null
    @Column('int', { name: 'count', nullable: true }) old?: unknown
  }
  const sealed = <T extends object>(options: T) => ({ ...options, nullable: true as const, state })
  @Entity('things')
  class Thing {
    @PrimaryGeneratedColumn('uuid') id!: string
    @Column(() => Place) place!: Place
    @EncryptedColumn(sealed({ name: 's1', type: 'bigint' as const, plaintextIn: 'p1' })) big?: bigint | null
    @Column('numeric', { name: 'p1', precision: 30, nullable: true }) p1?: unknown
    @EncryptedColumn(sealed({ name: 's2', type: 'boolean' as const, plaintextIn: 'p2' })) flag?: boolean | null
    @Column('boolean', { name: 'p2', nullable: true }) p2?: unknown
    @EncryptedColumn(sealed({ name: 's3', type: 'bytes' as const, plaintextIn: 'p3', storage: 'binary' as const }))
    raw?: Uint8Array | null
    @Column('bytea', { name: 'p3', nullable: true }) p3?: unknown
    @EncryptedColumn(sealed({ name: 's4', type: 'json' as const, plaintextIn: 'p4' })) data?: { a: number } | null
    @Column('jsonb', { name: 'p4', nullable: true }) p4?: unknown
    @EncryptedColumn(sealed({ name: 's5', type: 'day' as const, plaintextIn: 'p5' })) day?: string | null
    @Column('date', { name: 'p5', nullable: true }) p5?: unknown
    @EncryptedColumn(sealed({ name: 's6', type: 'date' as const, plaintextIn: 'p6' })) at?: Date | null
    @Column('timestamp', { name: 'p6', nullable: true }) p6?: unknown
    @EncryptedColumn(sealed({ name: 's7', type: 'number' as const, plaintextIn: 'p7' })) amount?: number | null
    @Column('double precision', { name: 'p7', nullable: true }) p7?: unknown
    @EncryptedColumn(sealed({ name: 'nick_sealed', plaintextIn: 'nick', blindIndex: true })) nick?: string | null
    @Column('varchar', { name: 'nick', length: 8, unique: true, nullable: true }) oldNick?: unknown
    @EncryptedColumn(sealed({ name: 's8', encryptNull: true, plaintextIn: 'p8' })) veiled?: string | null
    @Column('char', { name: 'p8', length: 5, nullable: true }) p8?: unknown
  }
  @Entity('beasts')
  @TableInheritance({ column: { type: 'varchar', name: 'kind' } })
  class Beast {
    @PrimaryGeneratedColumn('uuid') id!: string
    @EncryptedColumn({ nullable: true, state }) name?: string | null
  }
  @ChildEntity('cat')
  class Cat extends Beast {
    @EncryptedColumn(sealed({ name: 'lives_sealed', type: 'number' as const, blindIndex: true, plaintextIn: 'lives' }))
    lives?: number | null
    @Column('int', { name: 'lives', nullable: true }) oldLives?: unknown
  }
  return { Thing, Beast, Cat }
}

onEachEngine('places of plaintext', (engine) => {
  const kms = fakeKms()
  let open: Clinic<'single'> | undefined
  async function deploy(state: FieldState) {
    await open?.close()
    open = undefined
    const { Thing, Beast, Cat } = build(state)
    open = await startClinic(engine, {
      entities: [Thing, Beast, Cat],
      tenancy: 'single',
      kms,
      fieldseal: { app: 'places' },
      dataSource: { cache: engine.oneConnection ? false : { type: 'database', duration: 60_000 } },
    })
    const source = typeormSource(open.dataSource)
    const map = source.models.find(({ id }) => id === 'things') as RecordMap
    const rows = async () => {
      const found: StoredRow[] = []
      for await (const page of source.pages(map, { size: 10, tokens: true })) found.push(...page)
      return found
    }
    const field = (path: string) => map.at(path).field as Field
    const things = open.dataSource.getRepository(Thing) as unknown as Repository<ThingRow>
    const cats = open.dataSource.getRepository(Cat)
    return { clinic: open, source, map, rows, field, things, cats }
  }
  type Build = Awaited<ReturnType<typeof deploy>>
  const one = async ({ rows }: Build) => (await rows())[0] as StoredRow

  /** What the verb does to one row. */
  async function convertAll({ source, map, clinic, rows }: Build, to: 'envelope' | 'plaintext') {
    const { host } = { host: (await import('../src/install/installation.ts')).installationOf(clinic.dataSource).host }
    const context = host.capture()
    for (const row of await rows()) {
      const facts = map.facts(row.columns, context)
      const cells = map.fields.map((field) => ({ field, value: row.cells[field.path] ?? null }))
      const [opened] = await host.cipher.open([{ map, facts, cells }], context)
      const values = cells.map((cell, i) => ({ ...cell, value: opened?.values[i] }))
      const [sealed] = await host.cipher.seal([{ map, facts, cells: values }], context)
      const patches = values.map(({ field, value }, i) => ({
        field,
        before: isPlainCell(cells[i]?.value) ? cells[i]?.value : asBytes(cells[i]?.value),
        after:
          to === 'envelope'
            ? (sealed?.envelopes[i] ?? null)
            : value === null
              ? null
              : plainCell(field.plaintextIn ?? field.path, value),
      }))
      expect(await source.convert?.(map, [{ key: row.key, cells: patches as never }])).toEqual(['updated'])
    }
  }
  const asBytes = (value: unknown) =>
    typeof value === 'string' ? Buffer.from(value.slice(3), 'base64url') : value instanceof Uint8Array ? value : null

  beforeEach(async () => {
    const { clinic } = await deploy('plaintext')
    await clinic.dataSource.query('TRUNCATE things, beasts')
  })
  afterEach(async () => {
    await open?.close()
    open = undefined
  })
  const found = (things: Repository<ThingRow>) => things.findOneOrFail({ where: {} })

  it('keeps every type, in embeddeds too, on the way there and back', async () => {
    const before = await deploy('plaintext')
    await before.things.save({ ...VALUES })
    const table = () =>
      open?.dataSource.query('SELECT "placeCount", p1, p2, p3, p4, p5, p6, p7, nick FROM things') as Promise<unknown>
    const stored = await table()
    expect(await found(before.things)).toMatchObject(VALUES)
    const during = await deploy('migrating')
    expect(await found(during.things)).toMatchObject(VALUES)
    await convertAll(during, 'envelope')
    expect(await found(during.things)).toMatchObject(VALUES)
    const nothing = {
      placeCount: null,
      p1: null,
      p2: null,
      p3: null,
      p4: null,
      p5: null,
      p6: null,
      p7: null,
      nick: null,
    }
    expect(await table()).toEqual([nothing])
    const back = await deploy('plaintext')
    expect(await found(back.things)).toMatchObject(VALUES)
    await convertAll(back, 'plaintext')
    expect(await table()).toEqual(stored)
    expect(await found(back.things)).toMatchObject(VALUES)
  })

  it('finds embedded fields by their values while they are on the way', async () => {
    const { things } = await deploy('plaintext')
    await things.save({ ...VALUES, nick: 'ada' })
    for (const state of ['plaintext', 'migrating'] as const) {
      const build = await deploy(state)
      expect(await build.things.countBy({ nick: 'ada', place: { count: 7 } })).toBe(1)
      expect(await build.things.countBy({ nick: 'bob' })).toBe(0)
      await build.things.update({ nick: 'ada' }, { place: { count: 7, code: 'c' }, nick: 'ada' })
    }
    expect(await one(await deploy('migrating'))).toMatchObject({
      cells: { nick_sealed: expect.stringMatching(/^fs\./) as unknown },
    })
    expect(await (await deploy('encrypted')).things.countBy({ nick: 'ada' })).toBe(1)
  })

  it('believes no token that stands alone: a build that knows none has taken the value away', async () => {
    for (const state of ['plaintext', 'migrating'] as const) {
      const { things, clinic } = await deploy('plaintext')
      await clinic.dataSource.query('TRUNCATE things')
      await things.save({ ...VALUES, nick: 'left' })
      await clinic.dataSource.query('UPDATE things SET nick = NULL')
      const now = (await deploy(state)).things
      expect(await now.countBy({ nick: 'left' }), state).toBe(0)
      expect(await now.countBy({ nick: Not('left') }), state).toBe(0)
      expect(await now.countBy({ nick: IsNull() }), state).toBe(1)
      await now.delete({ nick: 'left' })
      expect(await now.count(), state).toBe(1)
    }
  })

  it('reads, writes and finds fields of a child of single-table inheritance', async () => {
    const before = await deploy('plaintext')
    await before.cats.save({ name: 'Tom', lives: 9 })
    const stored = () => open?.dataSource.query('SELECT name, lives, lives_sealed FROM beasts') as Promise<unknown>
    expect(await stored()).toEqual([{ name: 'Tom', lives: 9, lives_sealed: null }])
    const { cats } = await deploy('migrating')
    expect(await cats.findBy({ lives: 9 })).toMatchObject([{ name: 'Tom', lives: 9 }])
    await cats.update({ lives: 9 }, { lives: 8, name: 'Tim' })
    const sealed = expect.stringMatching(/^fs\./) as unknown
    expect(await stored()).toEqual([{ name: sealed, lives: null, lives_sealed: sealed }])
    expect(await (await deploy('plaintext')).cats.find()).toMatchObject([{ name: 'Tim', lives: 8 }])
  })

  it('changes a row only while everything is as it was read, and all of it or nothing', async () => {
    const build = await deploy('migrating')
    const { things, source, map, field, clinic } = build
    await clinic.dataSource.query("INSERT INTO things (nick, p7) VALUES ('ada', 0.5)")
    const nick = field('nick_sealed')
    const amount = field('s7')
    const readAgain = async () => {
      const { key, cells } = await one(build)
      return { key, before: cells['nick_sealed'] as PlainCell }
    }
    const { before } = await readAgain()
    const convert = (row: { key: unknown; before: unknown }, change: object, ...more: object[]) => {
      const cells = [{ field: nick, before: row.before, after: null, ...change }, ...more]
      return source.convert?.(map, [{ key: row.key, cells }] as never)
    }
    let row = await readAgain()
    await clinic.dataSource.query("UPDATE things SET nick = 'eve'")
    expect(await convert(row, {})).toEqual(['changed'])
    expect(await convert({ ...(await readAgain()), before }, {})).toEqual(['changed'])
    await clinic.dataSource.query("UPDATE things SET nick = 'ada', nick_sealed = 'fs.-AEB'")
    expect(await convert({ ...(await readAgain()), before }, {})).toEqual(['changed'])
    await clinic.dataSource.query('UPDATE things SET nick_sealed = NULL')
    row = await readAgain()
    const wrong = { field: amount, before: plainCell('p7', 0.75), after: null }
    expect(await convert(row, {}, wrong)).toEqual(['changed'])
    expect(await found(things)).toMatchObject({ nick: 'ada', amount: 0.5 })
    const token = Buffer.alloc(17, 1)
    expect(await convert(row, { after: row.before, tokens: [token] })).toEqual(['updated'])
    expect(await clinic.dataSource.query('SELECT nick, nick_sealed_bidx AS token FROM things')).toEqual([
      { nick: 'ada', token },
    ])
    expect(await convert(row, { tokens: [] })).toEqual(['changed'])
    expect(await convert(await readAgain(), { tokens: [] })).toEqual(['updated'])
    expect(await clinic.dataSource.query('SELECT nick, nick_sealed_bidx AS token FROM things')).toEqual([
      { nick: null, token: null },
    ])
  })

  it('refuses one row that a constraint refuses, and writes the others', async () => {
    const build = await deploy('plaintext')
    const { things, source, map, field, rows } = build
    await things.save([
      { ...VALUES, nick: 'a' },
      { ...VALUES, nick: 'b' },
      { ...VALUES, nick: 'c' },
    ])
    const nick = field('nick_sealed')
    const patches = (await rows()).map(({ key, cells }) => {
      const before = cells['nick_sealed'] as PlainCell
      const value = before.value === 'b' ? 'much too long' : before.value === 'c' ? 'd' : 'a'
      return { key, cells: [{ field: nick, before, after: plainCell('nick', value) }], value }
    })
    const results = await source.convert?.(map, patches)
    expect(Object.fromEntries(patches.map(({ value }, i) => [value, results?.[i]]))).toEqual({
      a: 'updated',
      d: 'updated',
      'much too long': 'refused',
    })
  })

  it('knows what a column would cut, round, pad or refuse', async () => {
    const { source, map, field } = await deploy('plaintext')
    const fits = (path: string, ...values: unknown[]) => source.fits?.(map, field(path), values)
    expect(await fits('nick_sealed', 'eight ch', 'nine char', 'pad      ', 'a\u0000', '', 'ä€😀')).toEqual([
      true,
      false,
      false,
      false,
      true,
      true,
    ])
    expect(await fits('s8', 'exact', 'abc')).toEqual([true, false]) // char(5) pads
    expect(await fits('placeCount_sealed', 7, 7.5, 3e9)).toEqual([true, false, false])
    expect(await fits('s1', 1n, 10n ** 31n)).toEqual([true, false])
    expect(await fits('s7', 0.1, -0, Number.NaN, 1e308)).toEqual([true, expect.any(Boolean), true, true])
    expect(await fits('s6', VALUES.at)).toEqual([true])
    expect(await fits('s4', { a: 1 }, { a: '\u0000' })).toEqual([true, false])
    const look = `fs.${Buffer.concat([Buffer.of(0xf8, 1, 1), Buffer.alloc(12), Buffer.of(0, 0, 1), Buffer.alloc(100)]).toString('base64url')}`
    expect(await fits('placeCode', 'text', look)).toEqual([true, false])
  })

  it('knows which plaintext is finer than its field', async () => {
    const build = await deploy('plaintext')
    const { clinic, source, map, field } = build
    await clinic.dataSource.query(
      "INSERT INTO things (p1, p6, p4, p7) VALUES (12, '2020-01-01 00:00:00.123456', '{\"a\": 1.0}', 0.1)",
    )
    const row = await one(build)
    const whole = async (path: string) =>
      (await source.isWhole?.(map, field(path), [row.cells[path] as PlainCell]))?.[0]
    expect([await whole('s1'), await whole('s4'), await whole('s7'), await whole('s6')]).toEqual([
      true,
      true,
      true,
      false,
    ])
  })

  it('opens raw rows that bring both columns, and says which one is missing', async () => {
    const { things, clinic } = await deploy('plaintext')
    await things.save({ ...VALUES, nick: 'ada' })
    const during = await deploy('migrating')
    const rows: object[] = await during.clinic.dataSource.query('SELECT id, nick, nick_sealed FROM things')
    expect(await decryptRaw(during.things, rows)).toMatchObject([{ nick_sealed: 'ada' }])
    const lacking: object[] = await during.clinic.dataSource.query('SELECT id, nick_sealed FROM things')
    await expect(decryptRaw(during.things, lacking)).rejects.toMatchObject({ code: 'ERR_ARGUMENT_INVALID' })
    expect(clinic).toBeDefined()
  })

  it.skipIf(engine.oneConnection)('reads the same from the result cache', async () => {
    const { things } = await deploy('plaintext')
    await things.save({ ...VALUES, nick: 'ada' })
    for (const state of ['plaintext', 'migrating'] as const) {
      const build = await deploy(state)
      for (let i = 0; i < 2; i++)
        expect(await build.things.find({ where: { nick: 'ada' }, cache: true })).toMatchObject([
          { ...VALUES, nick: 'ada' },
        ])
    }
  })

  it('reads a NULL as null until nulls are encrypted, then writes none', async () => {
    const before = await deploy('plaintext')
    await before.things.save({ ...VALUES, veiled: null })
    expect((await found(before.things)).veiled).toBeNull()
    const during = await deploy('migrating')
    expect(await during.source.countPlaintext?.(during.map, during.field('s8'))).toBe(1)
    await during.things.save({ id: (await found(during.things)).id, veiled: 'x' })
    await during.things.save({ id: (await found(during.things)).id, veiled: null })
    expect(await during.clinic.dataSource.query('SELECT s8, p8 FROM things')).toMatchObject([
      { s8: expect.stringMatching(/^fs/) as unknown, p8: null },
    ])
    expect((await found(during.things)).veiled).toBeNull()
    expect(await during.source.countPlaintext?.(during.map, during.field('s8'))).toBe(0)
  })
})
