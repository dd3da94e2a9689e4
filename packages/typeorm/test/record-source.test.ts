import { rotateKek, type KekId, type StoredRow } from '@fieldseal/core/adapter'
import { DataSource } from 'typeorm'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { CreateFieldsealTables1764000000000, typeormSource } from '../src/index.ts'
import { startClinic, type Clinic } from './support/clinic.ts'
import { onEachEngine } from './support/engine.ts'
import { Document, ENTITIES, Person } from './support/entities.ts'

onEachEngine('record source', (engine) => {
  let clinic: Clinic<'single'>
  beforeAll(async () => {
    clinic = await startClinic(engine, { entities: ENTITIES, tenancy: 'single' })
    await clinic.repository(Document).save(
      Array.from({ length: 25 }, (_, i) => ({
        year: 2000 + (i % 5),
        number: `n-${i}`,
        title: `title ${i}`,
        body: i % 2 === 0 ? 'text' : null,
      })),
    )
    await clinic.repository(Person).save({ email: 'a@x.org', scan: new Uint8Array([7]), contact: {} })
    await clinic.repository(Person).softDelete({ email: 'a@x.org' })
  })
  afterAll(() => clinic?.close())
  const source = () => typeormSource(clinic.dataSource)
  const mapOf = (id: string) => {
    const map = source().models.find((model) => model.id === id)
    if (map === undefined) throw new Error(`no model ${id}`)
    return map
  }
  const walk = async (id: string, options: Parameters<ReturnType<typeof source>['pages']>[1]) => {
    const pages: (readonly StoredRow[])[] = []
    for await (const page of source().pages(mapOf(id), options)) pages.push(page)
    return pages
  }

  it('knows the models of the DataSource, one for each table', () => {
    expect(
      source()
        .models.map(({ id }) => id)
        .toSorted(),
    ).toEqual(['animals', 'documents', 'people', 'tags', 'visits'])
    expect(() => typeormSource(new DataSource(clinic.dataSource.options))).toThrow(/withFieldseal/)
  })

  it('walks all rows once, in pages, from any position and in shards', async () => {
    const pages = await walk('documents', { size: 10 })
    expect(pages.map((page) => page.length)).toEqual([10, 10, 5])
    const keys = pages.flat().map(({ key }) => JSON.stringify(key))
    expect(new Set(keys).size).toBe(25)
    const after = pages[0]?.at(-1)?.after
    expect((await walk('documents', { size: 100, ...(after && { after }) })).flat()).toHaveLength(15)
    const shards = await Promise.all([1, 2, 3].map((i) => walk('documents', { size: 4, shard: [i, 3] })))
    expect(
      shards
        .flat(2)
        .map(({ key }) => JSON.stringify(key))
        .toSorted(),
    ).toEqual(keys.toSorted())
    expect(pages[0]?.[0]?.cells['title']).toMatch(/^fs\./)
    expect((await walk('people', { size: 5 })).flat()[0]?.cells['scan']).toBeInstanceOf(Uint8Array)
  })

  it('counts all rows, those under a KEK and those with plaintext', async () => {
    const [row] = (await walk('documents', { size: 1 })).flat()
    const title = row?.cells['title'] as string
    const kekId = Buffer.from(title.slice(3), 'base64url').toString('hex', 3, 15) as KekId
    expect(await source().count(mapOf('documents'), 'all')).toEqual({ rows: 25, exact: true })
    expect(await source().count(mapOf('documents'), { kekId })).toEqual({ rows: 25, exact: true })
    expect(await source().count(mapOf('people'), { kekId })).toEqual({ rows: 1, exact: true })
    const rotated = await rotateKek(clinic.fieldseal)
    expect(await source().count(mapOf('documents'), { kekId: rotated.kekId })).toEqual({ rows: 0, exact: true })
    expect(await source().count(mapOf('documents'), 'plaintext')).toEqual({ rows: 0, exact: true })
    await clinic.dataSource.query('ALTER TABLE documents DROP CONSTRAINT IF EXISTS x')
    expect((await walk('documents', { size: 100, kekId })).flat()).toHaveLength(25)
    expect((await walk('documents', { size: 100, kekId: rotated.kekId })).flat()).toHaveLength(0)
  })

  it('replaces the cells of a row only while all of them are what they were', async () => {
    const map = mapOf('documents')
    const [one, two] = (await walk('documents', { size: 2 })).flat()
    const [title, body] = ['title', 'body'].map((path) => map.at(path).field)
    if (one === undefined || two === undefined || title === undefined || body === undefined) return expect.unreachable()
    const bytes = (text: unknown) => Buffer.from(String(text).slice(3), 'base64url') as never
    const before = bytes(one.cells['title'])
    const after = Buffer.from(before)
    after[20] = 1
    const patch = { key: one.key, cells: [{ field: title, before, after: after as never }] }
    expect(await source().compareAndSet(map, [])).toEqual([])
    expect(
      await source().compareAndSet(map, [
        patch,
        { key: two.key, cells: [{ field: title, before, after: after as never }] },
      ]),
    ).toEqual(['updated', 'changed'])
    expect(await source().compareAndSet(map, [patch])).toEqual(['changed'])
    const both = {
      key: one.key,
      cells: [
        { field: title, before: after as never, after: before },
        { field: body, before: bytes('fs.-AEB'), after: before },
      ],
    }
    expect(await source().compareAndSet(map, [both])).toEqual(['changed'])
    expect(await source().compareAndSet(map, [{ ...both, cells: both.cells.slice(0, 1) }])).toEqual(['updated'])
    expect(await clinic.repository(Document).find()).toHaveLength(25)
  })

  it('replaces cells of a row of which somebody changed something else meanwhile, or wrote the same again', async () => {
    await clinic.fieldseal.flush()
    const map = mapOf('documents')
    const rows = (await walk('documents', { size: 3 })).flat().slice(0, 3)
    const title = map.at('title').field ?? expect.unreachable()
    const patches = rows.map(({ key, cells }) => {
      const before = Buffer.from((cells['title'] as string).slice(3), 'base64url')
      const after = Buffer.from(before)
      after[20] = (after[20] ?? 0) ^ 1
      return { key, cells: [{ field: title, before: before as never, after: after as never }] }
    })
    const [one, two] = rows.map(({ cells }) => cells['title'])
    await clinic.dataSource.query('UPDATE documents SET body = NULL WHERE title = $1', [one])
    await clinic.dataSource.query('UPDATE documents SET title = title WHERE title = $1', [two])
    expect(await source().compareAndSet(map, patches)).toEqual(['updated', 'updated', 'updated'])
    expect(await source().compareAndSet(map, patches)).toEqual(['changed', 'changed', 'changed'])
  })

  it('converts rows beside one that is refused, and none of which somebody has written anything since', async () => {
    const map = mapOf('documents')
    const rows = (await walk('documents', { size: 3 })).flat().slice(0, 3)
    const title = map.at('title').field ?? expect.unreachable()
    const patches = rows.map(({ key, cells }) => {
      const before = Buffer.from((cells['title'] as string).slice(3), 'base64url')
      const after = Buffer.from(before)
      after[20] = (after[20] ?? 0) ^ 1
      return { key, cells: [{ field: title, before: before as never, after: after as never }] }
    })
    const { cells = {} } = rows[0] ?? {}
    const refused = `fs.${Buffer.from(patches[1]?.cells[0]?.after ?? []).toString('base64url')}`
    await clinic.dataSource.query('UPDATE documents SET title = title WHERE title = $1', [cells['title']])
    await clinic.dataSource.query(`ALTER TABLE documents ADD CONSTRAINT stays CHECK (title <> '${refused}')`)
    expect(await source().convert?.(map, patches)).toEqual(['changed', 'refused', 'updated'])
    await clinic.dataSource.query('ALTER TABLE documents DROP CONSTRAINT stays')
  })

  it('keeps checkpoints, compared by version', async () => {
    const runner = clinic.dataSource.createQueryRunner()
    await new CreateFieldsealTables1764000000000().up(runner)
    await runner.release()
    const { checkpoints } = source()
    expect(await checkpoints.load('job')).toBeUndefined()
    expect(await checkpoints.save('job', 1, Buffer.from('one'))).toBe('saved')
    expect(await checkpoints.save('job', 1, Buffer.from('again'))).toBe('changed')
    expect(await checkpoints.save('job', 2, Buffer.from('two'))).toBe('saved')
    expect(await checkpoints.save('job', 2, Buffer.from('late'))).toBe('changed')
    const stored = await checkpoints.load('job')
    expect([stored?.version, Buffer.from(stored?.state ?? []).toString()]).toEqual([2, 'two'])
  })

  it('inspects the columns of a table', async () => {
    expect(await source().inspect(mapOf('people'))).toEqual([])
    await clinic.dataSource.query('ALTER TABLE tags RENAME COLUMN label_bidx TO elsewhere')
    expect(await source().inspect(mapOf('tags'))).toMatchObject([{ problem: 'column label_bidx is missing' }])
    await clinic.dataSource.query('ALTER TABLE tags RENAME COLUMN elsewhere TO label_bidx')
  })
})
