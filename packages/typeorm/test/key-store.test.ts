import { createFieldseal } from '@fieldseal/core'
import { fakeKms, keyStoreConformance } from '@fieldseal/testkit'
import { Column, DataSource, Entity, PrimaryColumn } from 'typeorm'
import { describe, expect, it } from 'vitest'
import { CreateFieldsealTables1764000000000, EncryptedColumn, typeormKeyStore, withFieldseal } from '../src/index.ts'
import { startClinic } from './support/clinic.ts'
import { onPglite, onPostgres } from './support/engine.ts'
import { Wire } from './support/wire.ts'

@Entity('things')
class Thing {
  @PrimaryColumn('int') id!: number
  @Column('varchar', { nullable: true }) plain?: string | null
  @EncryptedColumn() secret!: string
}

onPostgres('key store with a pool of its own', (engine) => {
  let stores = 0
  const options = () => ({ ...engine.options(new Wire()), synchronize: true })
  keyStoreConformance({
    describe,
    it,
    async create() {
      const table = `keys_${++stores}`
      const [store, second] = [typeormKeyStore(options(), { table }), typeormKeyStore(options(), { table })]
      return {
        store,
        second,
        async close() {
          await store.close?.()
          await second.close?.()
        },
      }
    },
  })

  it('two processes make the table at the same time', async () => {
    const racers = Array.from({ length: 6 }, () => typeormKeyStore(options(), { table: 'raced' }))
    expect(await Promise.all(racers.map((store) => store.find([])))).toEqual(racers.map(() => []))
    const loaded = await Promise.all(
      racers.map((store) => store.load([{ app: 'a', tenant: 't', keyspace: 'default' }])),
    )
    expect(loaded).toEqual(racers.map(() => []))
    await Promise.all(racers.map(async (store) => store.close?.()))
  })

  it('answers what was asked before it closes: a pool that is gone would never answer', async () => {
    const store = typeormKeyStore(options(), { table: 'closing' })
    const ref = { app: 'a', tenant: 't', keyspace: 'default' }
    await store.load([ref])
    const asked = Array.from({ length: 20 }, () => store.load([ref])) // more than the pool has connections
    await store.close?.()
    expect(await Promise.all(asked)).toEqual(asked.map(() => []))
  })

  it('a missing table, and a database that does not answer, are unavailability', async () => {
    const store = typeormKeyStore({ ...engine.options(new Wire()) }, { table: 'absent' })
    await expect(store.load([{ app: 'a', tenant: 't', keyspace: 'default' }])).rejects.toMatchObject({
      code: 'ERR_KEY_STORE_UNAVAILABLE',
      kind: 'unavailable',
      message: expect.stringMatching(/CreateFieldsealTables1764000000000/),
    })
    await store.close?.()
    const nowhere = typeormKeyStore({
      type: 'postgres',
      host: '127.0.0.1',
      port: 1,
      username: 'x',
      password: 'pw-canary',
      database: 'x',
    })
    const failure: unknown = await nowhere
      .load([{ app: 'a', tenant: 't', keyspace: 'default' }])
      .catch((error: unknown) => error)
    expect(failure).toMatchObject({ code: 'ERR_KEY_STORE_UNAVAILABLE', details: { vendorCode: 'ECONNREFUSED' } })
    expect(JSON.stringify(failure)).not.toContain('canary')
  })

  it('the migration makes both tables, and goes back only while no key is in them', async () => {
    const migrated = new DataSource({
      ...engine.options(new Wire()),
      migrations: [CreateFieldsealTables1764000000000],
      entities: [Thing],
      synchronize: false,
    })
    const fieldseal = createFieldseal({
      app: 'm',
      tenancy: 'single',
      keyStore: typeormKeyStore(migrated.options),
      keys: { cmks: [fakeKms().cmk('k')] },
    })
    await withFieldseal(migrated, { fieldseal }).initialize()
    await migrated.runMigrations()
    await migrated.synchronize()
    await migrated.getRepository(Thing).save({ id: 1, secret: 's' })
    await expect(migrated.undoLastMigration()).rejects.toThrow(/holds 1 key record/)
    await migrated.query('DELETE FROM fieldseal_keys')
    await migrated.undoLastMigration()
    expect(await migrated.query(`SELECT to_regclass('fieldseal_keys') AS t`)).toEqual([{ t: null }])
    await fieldseal.close()
    await migrated.destroy()
  })

  it('a schema in the options holds the table', async () => {
    const plain = await new DataSource(engine.options(new Wire())).initialize()
    await plain.query('CREATE SCHEMA vault')
    const store = typeormKeyStore({ ...engine.options(new Wire()), schema: 'vault', synchronize: true })
    expect(await store.load([{ app: 'a', tenant: 't', keyspace: 'default' }])).toEqual([])
    expect(await plain.query(`SELECT to_regclass('vault.fieldseal_keys') IS NOT NULL AS made`)).toEqual([
      { made: true },
    ])
    await store.close?.()
    await plain.destroy()
  })

  it('opens no more connections than it was told, and none before it is used', async () => {
    const store = typeormKeyStore(
      { ...engine.options(new Wire()), applicationName: 'counted', synchronize: true },
      { poolSize: 1, table: 'counted' },
    )
    const plain = await new DataSource(engine.options(new Wire())).initialize()
    const connections = () =>
      plain.query<{ n: number }[]>(`SELECT count(*)::int AS n FROM pg_stat_activity WHERE application_name = 'counted'`)
    expect(await connections()).toEqual([{ n: 0 }])
    await Promise.all(Array.from({ length: 10 }, () => store.load([{ app: 'a', tenant: 't', keyspace: 'default' }])))
    expect(await connections()).toEqual([{ n: 1 }])
    await store.close?.()
    await plain.destroy()
  })
})

onPglite('key store on one connection', (engine) => {
  let tables = 0
  keyStoreConformance({
    describe,
    it,
    async create() {
      const wire = new Wire()
      const options = { ...engine.options(wire), synchronize: true }
      const table = `keys_${++tables}`
      const [store, second] = [typeormKeyStore(options, { table }), typeormKeyStore(options, { table })]
      const dataSource = new DataSource(options)
      const fieldseal = createFieldseal({
        app: 'a',
        tenancy: 'single',
        keyStore: store,
        keys: { cmks: [fakeKms().cmk('k')] },
      })
      await withFieldseal(dataSource, { fieldseal }).initialize()
      // A second store has the same DataSource: there is one connection in all.
      const { startKeyStore } = await import('../src/key-store/typeorm-key-store.ts')
      await startKeyStore(second, dataSource)
      return { store, second, close: () => dataSource.destroy() }
    },
  })

  it('opens no pool, and says so when it was given no DataSource', async () => {
    const store = typeormKeyStore(engine.options(new Wire()))
    await expect(store.load([{ app: 'a', tenant: 't', keyspace: 'default' }])).rejects.toMatchObject({
      code: 'ERR_CONFIG_INVALID',
    })
  })

  it('goes through the DataSource of the same database', async () => {
    const clinic = await startClinic(engine, { entities: [Thing], tenancy: 'single' })
    await clinic.repository(Thing).save({ id: 1, secret: 's' })
    expect(await clinic.dataSource.query('SELECT kind FROM fieldseal_keys')).toEqual([{ kind: 'kek' }])
    await clinic.close()
  })
})
