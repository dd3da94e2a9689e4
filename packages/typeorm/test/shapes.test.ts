import { createFieldseal } from '@fieldseal/core'
import { fakeKms } from '@fieldseal/testkit'
import {
  BaseEntity,
  Column,
  DataSource,
  DefaultNamingStrategy,
  Entity,
  JoinColumn,
  ManyToOne,
  OneToMany,
  OneToOne,
  PrimaryColumn,
  PrimaryGeneratedColumn,
  Tree,
  TreeChildren,
  TreeParent,
} from 'typeorm'
import { expect, it } from 'vitest'
import { EncryptedColumn, EncryptedModel, typeormKeyStore, withFieldseal } from '../src/index.ts'
import { startClinic } from './support/clinic.ts'
import { onPglite, onPostgres } from './support/engine.ts'
import { resultCache } from './support/result-cache.ts'
import { Wire } from './support/wire.ts'

abstract class Named {
  @PrimaryGeneratedColumn('uuid') id!: string
  @EncryptedColumn({ blindIndex: true }) name!: string
}

@Entity('closure_nodes')
@Tree('closure-table')
class ClosureNode extends Named {
  @TreeParent() parent?: ClosureNode | null
  @TreeChildren() children?: ClosureNode[]
}

@Entity('path_nodes')
@Tree('materialized-path')
class PathNode extends Named {
  @TreeParent() parent?: PathNode | null
  @TreeChildren() children?: PathNode[]
}

@Entity('nested_nodes')
@Tree('nested-set')
class NestedNode extends Named {
  @TreeParent() parent?: NestedNode | null
  @TreeChildren() children?: NestedNode[]
}

@Entity('authors')
class Author extends Named {
  @OneToMany(
    () => Book,
    (book) => book.author,
  )
  books!: Promise<Book[]>
  @OneToOne(() => Portrait, { eager: true, nullable: true, cascade: true }) @JoinColumn() portrait?: Portrait | null
}

@Entity('books')
class Book extends Named {
  @ManyToOne(
    () => Author,
    (author) => author.books,
  )
  author!: Promise<Author>
}

@Entity('portraits')
class Portrait {
  @PrimaryColumn('bigint') id!: string
  @EncryptedColumn({ type: 'json' }) caption!: { text: string }
}

@Entity('active')
class Active extends BaseEntity {
  @PrimaryGeneratedColumn('identity', { generatedIdentity: 'ALWAYS' }) id!: number
  @EncryptedColumn({ blindIndex: { unique: true } }) email!: string
}

onPglite('entities of every shape', (engine) => {
  it('trees, lazy and eager relations, active records, abstract bases', { timeout: 60_000 }, async () => {
    const entities = [ClosureNode, PathNode, NestedNode, Author, Book, Portrait, Active]
    const clinic = await startClinic(engine, { entities, tenancy: 'single' })
    for (const node of [ClosureNode, PathNode, NestedNode]) {
      const repository = clinic.dataSource.getTreeRepository<ClosureNode>(node as typeof ClosureNode)
      const root = await repository.save(repository.create({ name: 'root-canary' }))
      await repository.save(repository.create({ name: 'leaf-canary', parent: root }))
      expect(await repository.findTrees()).toMatchObject([{ name: 'root-canary', children: [{ name: 'leaf-canary' }] }])
      const leaf = await repository.findOneByOrFail({ name: 'leaf-canary' })
      expect((await repository.findAncestors(leaf)).map(({ name }) => name).toSorted()).toEqual([
        'leaf-canary',
        'root-canary',
      ])
      leaf.name = 'leaf-changed'
      await repository.save(leaf)
      expect(await repository.countBy({ name: 'leaf-changed' })).toBe(1)
    }
    const authors = clinic.repository(Author)
    const author = await authors.save(
      authors.create({
        name: 'author-canary',
        portrait: { id: '9007199254740993', caption: { text: 'caption-canary' } },
      }),
    )
    const written = clinic.repository(Book).create({ name: 'book-canary' })
    written.author = Promise.resolve(author) // create() does not take promises
    await clinic.repository(Book).save(written)
    const loaded = await authors.findOneByOrFail({ name: 'author-canary' })
    expect(await loaded.books).toMatchObject([{ name: 'book-canary' }])
    expect(loaded.portrait).toEqual({ id: '9007199254740993', caption: { text: 'caption-canary' } })
    const book = await clinic.repository(Book).findOneByOrFail({ author: { name: 'author-canary' } })
    expect(await book.author).toMatchObject({ name: 'author-canary' })

    await Active.create({ email: 'active-canary' }).save()
    const active = await Active.findOneByOrFail({ email: 'active-canary' })
    expect(active.id).toBe(1)
    active.email = 'active-changed'
    await active.save()
    expect(await Active.countBy({ email: 'active-changed' })).toBe(1)
    const [row] = await clinic.dataSource.query<{ email: string }[]>('SELECT email FROM active')
    expect(Buffer.from(row?.email.slice(3) ?? '', 'base64url')[15]).toBe(1) // the update of a loaded row is bound
    for (const canary of [
      'root-canary',
      'leaf-canary',
      'author-canary',
      'book-canary',
      'caption-canary',
      'active-canary',
      'active-changed',
    ]) {
      expect(clinic.wire.find(canary)).toEqual([])
    }
    const { upQueries } = await clinic.dataSource.driver.createSchemaBuilder().log()
    expect(upQueries.map(({ query }) => query)).toEqual([])
    await clinic.close()
  })

  it('naming strategies and table prefixes: names in the table, names in the authenticated data', {
    timeout: 30_000,
  }, async () => {
    class Snake extends DefaultNamingStrategy {
      override columnName(property: string, custom: string | undefined, prefixes: string[]): string {
        return [...prefixes, custom ?? property].join('_').replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
      }
    }
    class Address {
      @EncryptedColumn({ blindIndex: true }) zipCode!: string
    }
    @Entity()
    class Customer {
      @PrimaryGeneratedColumn() id!: number
      @EncryptedColumn({ id: 'surname', name: 'lastName2', padToBytes: 32, maxBytes: 64 }) lastName!: string
      @Column(() => Address, { prefix: 'home' }) home!: Address
      @Column(() => Address, { prefix: 'work' }) work!: Address
    }
    const clinic = await startClinic(engine, {
      entities: [Customer],
      tenancy: 'single',
      dataSource: { namingStrategy: new Snake(), entityPrefix: 'app_' },
    })
    const customers = clinic.repository(Customer)
    await customers.save({ lastName: 'Byron', home: { zipCode: '1' }, work: { zipCode: '2' } })
    expect(await customers.findOneByOrFail({ work: { zipCode: '2' } })).toMatchObject({
      lastName: 'Byron',
      home: { zipCode: '1' },
    })
    expect(await customers.findOneBy({ home: { zipCode: '2' } })).toBeNull()
    const [row] = await clinic.dataSource.query<object[]>('SELECT * FROM app_customer')
    expect(Object.keys(row ?? {}).toSorted()).toEqual([
      'home_zip_code',
      'home_zip_code_bidx',
      'home_zip_code_bidx_next',
      'id',
      'last_name2',
      'work_zip_code',
      'work_zip_code_bidx',
      'work_zip_code_bidx_next',
    ])
    await expect(
      customers.insert({ lastName: 'x'.repeat(65), home: { zipCode: '1' }, work: { zipCode: '2' } }),
    ).rejects.toMatchObject({ code: 'ERR_VALUE_INVALID' })
    await clinic.close()
  })

  it('a tenant that is a relation', { timeout: 30_000 }, async () => {
    @Entity('owners')
    class Owner {
      @PrimaryColumn('varchar') id!: string
    }
    @Entity('assets')
    @EncryptedModel<Asset>({ tenantBy: 'owner' })
    class Asset {
      @PrimaryGeneratedColumn('uuid') id!: string
      @ManyToOne(() => Owner) owner!: Owner
      @EncryptedColumn({ blindIndex: { unique: true } }) serial!: string
      @EncryptedColumn({ nullable: true }) note?: string | null
    }
    const clinic = await startClinic(engine, { entities: [Owner, Asset], tenancy: 'multi' })
    await clinic.repository(Owner).save([{ id: 'a' }, { id: 'b' }])
    const as = <R>(tenant: string, fn: () => R) => clinic.fieldseal.runAs({ tenant }, fn)
    const assets = () => clinic.repository(Asset)
    const saved = await as('a', () => assets().save({ owner: { id: 'a' }, serial: '1' }))
    await as('b', () => assets().save({ owner: { id: 'b' }, serial: '1' }))
    await expect(as('a', () => assets().save({ owner: { id: 'b' }, serial: '2' }))).rejects.toMatchObject({
      code: 'ERR_TENANT_MISMATCH',
    })
    await as('a', () => assets().save({ id: saved.id, note: 'partial' }))
    expect(await as('a', () => assets().findOneByOrFail({ serial: '1' }))).toMatchObject({ note: 'partial' })
    await as('a', () => assets().update({ serial: '1' }, { note: 'by token' }))
    await as('a', () => assets().upsert({ owner: { id: 'a' }, serial: '1', note: 'upserted' }, ['serial']))
    expect(
      await as('a', () => assets().find({ where: { owner: { id: 'a' } }, relations: { owner: true } })),
    ).toMatchObject([{ note: 'upserted', owner: { id: 'a' } }])
    await clinic.close()
  })

  it('a result cache of your own gets ciphertext, under keys of tokens', { timeout: 30_000 }, async () => {
    const { stored, options } = resultCache()
    const clinic = await startClinic(engine, {
      entities: [Author, Book, Portrait],
      tenancy: 'single',
      dataSource: { cache: { ...options, alwaysEnabled: true } },
    })
    const authors = clinic.repository(Author)
    await authors.save([{ name: 'cached-canary' }, { name: 'other-canary' }] as Author[])
    const find = (name: string) => authors.find({ where: { name }, relations: { portrait: true }, take: 3 })
    expect(await find('cached-canary')).toMatchObject([{ name: 'cached-canary' }])
    expect(await find('other-canary')).toMatchObject([{ name: 'other-canary' }])
    const size = stored.size
    expect(await find('cached-canary')).toMatchObject([{ name: 'cached-canary' }])
    expect(await authors.countBy({ name: 'cached-canary' })).toBe(1)
    expect(stored.size).toBe(size + 1)
    expect([...stored].join('\n')).not.toMatch(/canary|sealed #/)
    await clinic.close()
  })
})

onPostgres('replication and schemas', (engine) => {
  it('reads go to replicas, key records and rewraps to the primary', { timeout: 30_000 }, async () => {
    const { url, ...rest } = engine.options(new Wire())
    const replication = { master: { url: String(url) }, slaves: [{ url: String(url) }] }
    const dataSource = new DataSource({ ...rest, replication, entities: [Author, Book, Portrait], synchronize: true })
    const fieldseal = createFieldseal({
      app: 'r',
      tenancy: 'single',
      keyStore: typeormKeyStore(dataSource.options),
      keys: { cmks: [fakeKms().cmk('k')] },
    })
    await withFieldseal(dataSource, { fieldseal }).initialize()
    await dataSource.getRepository(Author).save({ name: 'a' } as Author)
    expect(await dataSource.getRepository(Author).findOneByOrFail({ name: 'a' })).toMatchObject({ name: 'a' })
    await fieldseal.close()
    await dataSource.destroy()
  })

  it('a table in a schema of its own', { timeout: 30_000 }, async () => {
    @Entity({ name: 'people', schema: 'hr' })
    @EncryptedModel({ tenantBy: 'clinicId' })
    class Employee {
      @PrimaryGeneratedColumn('uuid') id!: string
      @Column('varchar') clinicId!: string
      @EncryptedColumn({ blindIndex: { unique: true } }) email!: string
      @EncryptedColumn({ nullable: true }) note?: string | null
    }
    const plain = await new DataSource(engine.options(new Wire())).initialize()
    await plain.query('CREATE SCHEMA hr')
    await plain.destroy()
    const clinic = await startClinic(engine, { entities: [Employee], tenancy: 'multi' })
    await clinic.fieldseal.runAs({ tenant: 't' }, async () => {
      const employees = clinic.repository(Employee)
      await employees.upsert({ clinicId: 't', email: 'a@x.org', note: '1' }, ['email'])
      await employees.upsert({ clinicId: 't', email: 'a@x.org', note: '2' }, ['email'])
      await employees.update({ email: 'a@x.org' }, { note: '3' })
      expect(await employees.findBy({ clinicId: 't' })).toMatchObject([{ email: 'a@x.org', note: '3' }])
      await clinic.dataSource
        .createQueryBuilder()
        .insert()
        .into('hr.people')
        .values({ clinicId: 't', email: 'b@x.org' })
        .execute()
      expect(await employees.countBy({ email: 'b@x.org' })).toBe(1)
    })
    await clinic.close()
  })
})
