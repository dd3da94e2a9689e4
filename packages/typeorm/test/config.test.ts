import { createFieldseal } from '@fieldseal/core'
import { fakeKms, memoryKeyStore } from '@fieldseal/testkit'
import {
  Check,
  ChildEntity,
  Column,
  DataSource,
  Entity,
  EntitySchema,
  Generated,
  Index,
  JoinColumn,
  ManyToOne,
  PrimaryColumn,
  PrimaryGeneratedColumn,
  TableInheritance,
  Unique,
  ViewEntity,
} from 'typeorm'
import { expect, it } from 'vitest'
import { EncryptedColumn, EncryptedModel, encryptedSchemaColumn, typeormKeyStore, withFieldseal } from '../src/index.ts'
import { startClinic } from './support/clinic.ts'
import { onPglite, onPostgres, type Engine } from './support/engine.ts'
import { Wire } from './support/wire.ts'

type Entities = ConstructorParameters<typeof DataSource>[0]['entities']

const invalid = (reason: RegExp) => ({
  code: 'ERR_CONFIG_INVALID',
  kind: 'misuse',
  message: expect.stringMatching(reason),
})

function fieldseal(tenancy: 'single' | 'multi' = 'single') {
  return createFieldseal({ app: 'test', tenancy, keyStore: memoryKeyStore(), keys: { cmks: [fakeKms().cmk('k')] } })
}

onPglite('start-up', (engine) => {
  async function start(entities: Entities, tenancy: 'single' | 'multi' = 'single', tenantBy?: string): Promise<void> {
    const dataSource = new DataSource({ ...engine.options(new Wire()), entities: entities ?? [] })
    withFieldseal(dataSource, { fieldseal: fieldseal(tenancy), ...(tenantBy === undefined ? {} : { tenantBy }) })
    await dataSource.initialize()
    await dataSource.destroy()
  }

  it('a DataSource that was not passed to withFieldseal refuses to start, and says what to do', async () => {
    @Entity()
    class Forgotten {
      @PrimaryColumn('int') id!: number
      @EncryptedColumn() email!: string
    }
    const dataSource = new DataSource({ ...engine.options(new Wire()), entities: [Forgotten] })
    await expect(dataSource.initialize()).rejects.toThrow(/withFieldseal/)
    const schema = new EntitySchema<{ id: number; email: string }>({
      name: 'f',
      columns: { id: { type: 'int', primary: true }, email: encryptedSchemaColumn() },
    })
    await expect(new DataSource({ ...engine.options(new Wire()), entities: [schema] }).initialize()).rejects.toThrow(
      /withFieldseal/,
    )
  })

  it('a second DataSource on the same entities is not changed', async () => {
    @Entity('both')
    class Both {
      @PrimaryColumn('int') id!: number
      @EncryptedColumn() email!: string
    }
    await start([Both])
    await expect(new DataSource({ ...engine.options(new Wire()), entities: [Both] }).initialize()).rejects.toThrow(
      /withFieldseal/,
    )
  })

  it('starts twice, after it was destroyed', async () => {
    @Entity('again')
    class Again {
      @PrimaryColumn('int') id!: number
      @EncryptedColumn({ blindIndex: true }) email!: string
    }
    const dataSource = withFieldseal(new DataSource({ ...engine.options(new Wire()), entities: [Again] }), {
      fieldseal: fieldseal(),
    })
    await dataSource.initialize()
    await dataSource.destroy()
    await dataSource.initialize()
    await dataSource.destroy()
  })

  it('a second column decorator on the property is refused where it would win', () => {
    expect(() => {
      class Twice {
        @PrimaryColumn('int') id!: number
        @EncryptedColumn() @Column('varchar') email!: string
      }
      return Twice
    }).toThrow(/ERR_CONFIG_INVALID Twice.email/)
  })

  it.each<[string, () => Entities, RegExp]>([
    [
      'a primary key',
      () => [new EntitySchema({ name: 'e', columns: { id: { ...encryptedSchemaColumn(), primary: true } } })],
      /primary key/,
    ],
    [
      'a column with a default',
      () => [
        new EntitySchema({
          name: 'e',
          columns: { id: { type: 'int', primary: true }, email: { ...encryptedSchemaColumn(), default: 'x' } },
        }),
      ],
      /default/,
    ],
    [
      'an array column',
      () => [
        new EntitySchema({
          name: 'e',
          columns: { id: { type: 'int', primary: true }, email: { ...encryptedSchemaColumn(), array: true } },
        }),
      ],
      /array/,
    ],
    [
      'a version column',
      () => [
        new EntitySchema({
          name: 'e',
          columns: { id: { type: 'int', primary: true }, email: { ...encryptedSchemaColumn(), version: true } },
        }),
      ],
      /./,
    ],
    [
      'an index',
      () => {
        @Entity('e')
        class E {
          @PrimaryColumn('int') id!: number
          @EncryptedColumn() @Index() email!: string
        }
        return [E]
      },
      /e\.email.*blindIndex/,
    ],
    [
      'a compound index',
      () => {
        @Entity('e')
        @Index(['id', 'email'])
        class E {
          @PrimaryColumn('int') id!: number
          @EncryptedColumn() email!: string
        }
        return [E]
      },
      /e\.email.*blindIndex/,
    ],
    [
      'a partial index that names it',
      () => {
        @Entity('e')
        @Index(['id'], { where: 'email IS NOT NULL' })
        class E {
          @PrimaryColumn('int') id!: number
          @EncryptedColumn() email!: string
        }
        return [E]
      },
      /constraint or partial index/,
    ],
    [
      'a unique constraint',
      () => {
        @Entity('e')
        @Unique(['email'])
        class E {
          @PrimaryColumn('int') id!: number
          @EncryptedColumn() email!: string
        }
        return [E]
      },
      /e\.email.*blindIndex/,
    ],
    [
      'a check that names it',
      () => {
        @Entity('e')
        @Check(`length("email") > 3`)
        class E {
          @PrimaryColumn('int') id!: number
          @EncryptedColumn() email!: string
        }
        return [E]
      },
      /constraint/,
    ],
    [
      'a generated column',
      () => {
        @Entity('e')
        class E {
          @PrimaryColumn('int') id!: number
          @EncryptedColumn() @Generated('uuid') token!: string
        }
        return [E]
      },
      /generates/,
    ],
    [
      'a foreign key',
      () => {
        @Entity('o')
        class Other {
          @PrimaryColumn('int') id!: number
        }
        @Entity('e')
        class E {
          @PrimaryColumn('int') id!: number
          @EncryptedColumn({ type: 'number' }) otherId!: number
          @ManyToOne(() => Other) @JoinColumn({ name: 'otherId' }) other!: Other
        }
        return [E, Other]
      },
      /foreign key/,
    ],
    [
      'a column that a foreign key references',
      () => {
        @Entity('e')
        class E {
          @PrimaryColumn('int') id!: number
          @EncryptedColumn() code!: string
        }
        @Entity('c')
        class C {
          @PrimaryColumn('int') id!: number
          @ManyToOne(() => E) @JoinColumn({ referencedColumnName: 'code' }) e!: object
        }
        return [E, C]
      },
      /references/,
    ],
    [
      'a view',
      () => {
        @ViewEntity({ name: 'v', expression: 'SELECT 1 AS id' })
        class V {
          @EncryptedColumn() email!: string
        }
        return [V]
      },
      /view/,
    ],
    [
      'a token column whose name is taken',
      () => {
        @Entity('e')
        class E {
          @PrimaryColumn('int') id!: number
          @Column('varchar') email_bidx!: string
          @EncryptedColumn({ blindIndex: true }) email!: string
        }
        return [E]
      },
      /e\.email_bidx/,
    ],
    [
      'a model id that another table has',
      () => {
        @Entity('e1')
        @EncryptedModel({ id: 'same' })
        class A {
          @PrimaryColumn('int') id!: number
          @EncryptedColumn() email!: string
        }
        @Entity('e2')
        @EncryptedModel({ id: 'same' })
        class B {
          @PrimaryColumn('int') id!: number
          @EncryptedColumn() email!: string
        }
        return [A, B]
      },
      /'same' is also the id of table 'e1'|two different models/,
    ],
  ])('%s cannot be encrypted', async (_, entities, reason) => {
    await expect((async () => start(entities()))()).rejects.toMatchObject(invalid(reason))
  })

  it.each<[string, object, RegExp]>([
    ['an unknown state', { state: 'open' }, /state: 'plaintext', 'migrating' or 'encrypted'/],
    ['a number that turns in place', { type: 'number', state: 'migrating' }, /plaintextIn: only a string/],
    ['bytes of text that turn in place', { storage: 'binary', state: 'plaintext' }, /plaintextIn: only a string/],
    ['an old column that is not declared', { state: 'migrating', plaintextIn: 'old' }, /declares no column 'old'/],
    ['a key as the old column', { state: 'migrating', plaintextIn: 'id' }, /needed otherwise/],
    ['an unknown option', { blindIdnex: true }, /unknown option/],
    ['an unknown option of the index', { blindIndex: { uniqe: true } }, /unknown option/],
    [
      'a condition of a unique index that is none',
      { blindIndex: { unique: { where: 'x' } } },
      /true, false or \{ where/,
    ],
    ['an unknown normaliser', { blindIndex: { normalize: 'upper' } }, /normalize/],
    ['an index on an encrypted null', { blindIndex: true, encryptNull: true, nullable: true }, /encryptNull/],
    ['few values', { values: ['A', 'B'], blindIndex: true }, /few/],
  ])('refuses %s of a field', async (_, options, reason) => {
    @Entity('e')
    class E {
      @PrimaryColumn('int') id!: number
      @EncryptedColumn(options as object) email!: string
    }
    await expect(start([E])).rejects.toMatchObject(invalid(reason))
  })

  it.each<[string, object]>([
    ['type', { type: 'text' }],
    ['storage', { storage: 'blob' }],
  ])('refuses a wrong %s at the decorator', (_, options) => {
    expect(() => EncryptedColumn(options as object)).toThrow(/ERR_CONFIG_INVALID/)
  })

  it.each<[string, object, RegExp]>([
    ['mode direct without an opaque key', { mode: 'direct' }, /opaque primary key/],
    ['compound indexes', { compoundIndexes: { person: { of: ['email'] } } }, /two or more different properties/],
    ['an unknown option', { tenantby: 'x' }, /unknown option/],
    ['bindRow: require without canonical key', { bindRow: 'require' }, /canonical/],
    ['a tenant in tenancy single', { tenantBy: 'name' }, /single/],
  ])('refuses %s of a model', async (_, options, reason) => {
    @Entity('e')
    @EncryptedModel(options as object)
    class E {
      @PrimaryColumn('numeric') id!: string
      @Column('varchar') name!: string
      @EncryptedColumn() email!: string
    }
    await expect(start([E])).rejects.toMatchObject(invalid(reason))
  })

  it('tenancy multi: every model says where its tenant stands', async () => {
    @Entity('e')
    class E {
      @PrimaryColumn('int') id!: number
      @Column('varchar') clinicId!: string
      @Column('char', { length: 3 }) padded!: string
      @Column('varchar', { transformer: { to: (v: string) => v, from: (v: string) => v } }) changed!: string
      @EncryptedColumn() email!: string
    }
    await expect(start([E], 'multi')).rejects.toMatchObject(invalid(/tenantBy/))
    await expect(start([E], 'multi', 'nowhere')).rejects.toMatchObject(invalid(/nowhere/))
    await expect(start([E], 'multi', 'padded')).rejects.toMatchObject(invalid(/compares otherwise/))
    await expect(start([E], 'multi', 'changed')).rejects.toMatchObject(invalid(/compares otherwise/))
    await start([E], 'multi', 'clinicId')
    await start([E], 'multi', 'none')
  })

  it('a child of single-table inheritance has the options of its root', async () => {
    @Entity('roots')
    @TableInheritance({ column: { type: 'varchar', name: 'kind' } })
    @EncryptedModel({ id: 'root' })
    class Root {
      @PrimaryGeneratedColumn() id!: number
      @EncryptedColumn() email!: string
    }
    @ChildEntity()
    class Same extends Root {
      @EncryptedColumn({ nullable: true }) more?: string
    }
    await start([Root, Same])
    @ChildEntity()
    @EncryptedModel({ id: 'other' })
    class Other extends Root {}
    await expect(start([Root, Other])).rejects.toMatchObject(invalid(/other options than its root/))
  })

  it.each<[string, () => unknown, RegExp]>([
    [
      'another database',
      () => withFieldseal({ options: { type: 'mysql' } } as DataSource, { fieldseal: fieldseal() }),
      /mysql.*not supported yet/,
    ],
    [
      'an unknown option',
      () => withFieldseal(new DataSource(engine.options(new Wire())), { fieldseal: fieldseal(), kms: 1 } as never),
      /unknown option/,
    ],
    [
      'a wrong storage',
      () =>
        withFieldseal(new DataSource(engine.options(new Wire())), { fieldseal: fieldseal(), storage: 'blob' as never }),
      /storage/,
    ],
    [
      'something that is no Fieldseal',
      () => withFieldseal(new DataSource(engine.options(new Wire())), { fieldseal: {} as never }),
      /createFieldseal/,
    ],
    [
      'a DataSource given twice',
      () => {
        const d = new DataSource(engine.options(new Wire()))
        withFieldseal(d, { fieldseal: fieldseal() })
        withFieldseal(d, { fieldseal: fieldseal() })
      },
      /before/,
    ],
    [
      'a cache table on one connection',
      () => withFieldseal(new DataSource({ ...engine.options(new Wire()), cache: true }), { fieldseal: fieldseal() }),
      /second connection/,
    ],
    ['a key store of another database', () => typeormKeyStore({ type: 'mysql' } as never), /mysql/],
  ])('withFieldseal refuses %s', (_, run, reason) => {
    expect(run).toThrow(reason)
  })

  it('refuses a DataSource that is initialized already', async () => {
    const dataSource = await new DataSource(engine.options(new Wire())).initialize()
    expect(() => withFieldseal(dataSource, { fieldseal: fieldseal() })).toThrow(/before initialize/)
    await dataSource.destroy()
  })

  it('does not let TypeORM drop a plain column to make it encrypted', async () => {
    const plain = await new DataSource(engine.options(new Wire())).initialize()
    await plain.query(`CREATE TABLE legacy (id int PRIMARY KEY, email varchar(100))`)
    await plain.query(`INSERT INTO legacy VALUES (1, 'precious')`)
    @Entity('legacy')
    class Legacy {
      @PrimaryColumn('int') id!: number
      @EncryptedColumn({ nullable: true }) email!: string | null
    }
    const dataSource = withFieldseal(
      new DataSource({ ...engine.options(new Wire()), entities: [Legacy], synchronize: true }),
      { fieldseal: fieldseal() },
    )
    await plain.destroy()
    await expect(dataSource.initialize()).rejects.toMatchObject(invalid(/legacy\.email.*character varying.*drop/))
    const again = await new DataSource(engine.options(new Wire())).initialize()
    expect(await again.query('SELECT * FROM legacy')).toEqual([{ id: 1, email: 'precious' }])
    await again.destroy()
  })

  it('keeps names within 63 bytes, and names token columns after their column', async () => {
    const long = 'a_column_name_that_is_as_long_as_a_name_can_be_in_this_database'
    @Entity('long')
    class Long {
      @PrimaryColumn('int') id!: number
      @EncryptedColumn({ name: long, blindIndex: { unique: true } }) email!: string
    }
    const clinic = await startClinic(engine, { entities: [Long], tenancy: 'single' })
    await clinic.repository(Long).save({ id: 1, email: 'a' })
    expect(await clinic.repository(Long).findOneByOrFail({ email: 'a' })).toMatchObject({ id: 1 })
    const [row] = await clinic.dataSource.query<object[]>('SELECT * FROM long')
    expect(Object.keys(row ?? {}).every((name) => name.length <= 63)).toBe(true)
    const { upQueries } = await clinic.dataSource.driver.createSchemaBuilder().log()
    expect(upQueries).toEqual([])
    await clinic.close()
  })

  it('an EntitySchema works like a class, model options included', async () => {
    interface User {
      id: string
      tenant: string
      email: string
      note: string | null
    }
    const users = new EntitySchema<User>({
      name: 'users',
      columns: {
        id: { type: 'uuid', primary: true, generated: 'uuid' },
        tenant: { type: 'varchar' },
        email: encryptedSchemaColumn({ blindIndex: true }),
        note: encryptedSchemaColumn({ nullable: true, storage: 'binary' }),
      },
    })
    EncryptedModel<User>({ tenantBy: 'tenant', id: 'user' })(users)
    const clinic = await startClinic(engine, { entities: [users], tenancy: 'multi' })
    await clinic.fieldseal.runAs({ tenant: 't' }, async () => {
      const repository = clinic.dataSource.getRepository(users)
      await repository.save({ tenant: 't', email: 'a@x.org', note: 'n' })
      expect(await repository.findOneByOrFail({ email: 'a@x.org' })).toMatchObject({ tenant: 't', note: 'n' })
    })
    await clinic.close()
    expect(() => EncryptedModel({})(new EntitySchema({ name: 'plain', columns: {} }))).toThrow(
      /without encrypted columns/,
    )
  })
})

onPostgres('start-up on a server', (engine: Engine) => {
  it('refuses key and tenant columns under a non-deterministic collation, declared or found', async () => {
    const plain = await new DataSource(engine.options(new Wire())).initialize()
    await plain.query(
      `CREATE COLLATION IF NOT EXISTS loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`,
    )
    await plain.query(`CREATE TABLE loose_found (id varchar COLLATE loose PRIMARY KEY, email text)`)
    await plain.destroy()
    @Entity('loose_declared')
    class Declared {
      @PrimaryColumn('int') id!: number
      @Column({ type: 'varchar', collation: 'loose' }) clinicId!: string
      @EncryptedColumn() email!: string
    }
    const declared = withFieldseal(new DataSource({ ...engine.options(new Wire()), entities: [Declared] }), {
      fieldseal: fieldseal('multi'),
      tenantBy: 'clinicId',
    })
    await expect(declared.initialize()).rejects.toMatchObject(invalid(/compares otherwise/))
    @Entity('loose_found')
    class Found {
      @PrimaryColumn('varchar') id!: string
      @EncryptedColumn() email!: string
    }
    const found = withFieldseal(new DataSource({ ...engine.options(new Wire()), entities: [Found] }), {
      fieldseal: fieldseal(),
    })
    await expect(found.initialize()).rejects.toMatchObject(invalid(/non-deterministic/))
    expect(found.isInitialized).toBe(false)
  })
})
