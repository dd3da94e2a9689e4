import { setTimeout as sleep } from 'node:timers/promises'
import type { Finding, Report, Status } from '@fieldseal/migrate'
import { type Pgbouncer, pgbouncerBinary, startPgbouncer } from '@fieldseal/servers'
import { hasPostgres } from '@fieldseal/servers/vitest'
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest'
import { refused } from './support/told.ts'
import { type Blow, openWard, readable, ROWS, TENANT, type Ward } from './support/ward.ts'

const SMALL = ['--model', 'patients', '--batch', '5', '--concurrency', '2']
const BLOWS: readonly Blow[] = [
  [4, 'after'],
  [2, 'before'],
]
const CHECKPOINTS: readonly Blow[] = [
  [2, 'after'],
  [2, 'before'],
]

/** Connections to the server: fewer than the application and a command open to the pooler. */
const POOL = { transaction: 3, session: 40 }

async function keyOf({ migrator }: Ward): Promise<Status['keys'][number]> {
  const { keys } = await migrator.status({ tenant: TENANT })
  const found = keys.filter(
    ({ purpose, keyspace, state }) => purpose === 'wrap' && keyspace === 'default' && state === 'active',
  )
  return found.at(-1) ?? expect.unreachable()
}

describe.runIf(hasPostgres() && pgbouncerBinary() !== undefined).each(['transaction', 'session'] as const)(
  'past PgBouncer in pool_mode=%s',
  { timeout: 180_000 },
  (mode) => {
    let pgbouncer: Pgbouncer | undefined
    let pooler = ''
    beforeAll(async () => {
      pgbouncer = await startPgbouncer(inject('postgres')?.url ?? '', { mode, poolSize: POOL[mode] })
      pooler = pgbouncer.url
    })
    afterAll(() => pgbouncer?.stop())

    it('an application finds, writes, saves, upserts, commits and rolls back, many at a time', async (context) => {
      const { app, as } = await openWard(context, { pooler, rows: 0 })
      const patients = app.patients()
      const { manager } = app.dataSource
      const one = (n: number) =>
        as(async () => {
          const email = `p${n}@x.org`
          const [{ id } = expect.unreachable()] = (await patients.insert({ clinicId: TENANT, email, ssn: 'a' }))
            .identifiers
          const found = await patients.findOneByOrFail({ clinicId: TENANT, email })
          await patients.save({ ...found, ssn: 'b' })
          await patients.update({ id, clinicId: TENANT }, { ssn: 'c' })
          await patients.upsert({ id, clinicId: TENANT, email, ssn: 'd' }, ['id'])
          await manager.transaction((inside) => inside.getRepository(patients.target).save({ ...found, ssn: 'e' }))
          const undone = manager.transaction(async (inside) => {
            await inside.getRepository(patients.target).update({ id, clinicId: TENANT }, { ssn: 'f' })
            await inside.query('SELECT 1 / 0')
          })
          await expect(undone).rejects.toThrow(/division by zero/)
          expect(await patients.findBy({ id, clinicId: TENANT })).toEqual([{ id, clinicId: TENANT, email, ssn: 'e' }])
        })
      await Promise.all(Array.from({ length: 12 }, (_, n) => one(n)))
      expect(await as(() => patients.count())).toBe(12)
    })

    it('every verb does its work, and goes on where it was killed', async (context) => {
      const ward = await openWard(context, { pooler, state: 'plaintext', plaintext: true })
      const { json, killed } = ward
      const exact = async (...args: readonly string[]) => {
        const report = await killed<Report>(args[0] === 'verify' ? CHECKPOINTS : BLOWS, ...args)
        expect(report, args[0]).toMatchObject({ resumed: true, remaining: 0, models: [{ rows: ROWS, failed: 0 }] })
      }
      await exact('backfill', ...SMALL) // tokens
      await ward.deploy({ state: 'migrating' })
      await exact('backfill', ...SMALL)
      await ward.deploy({ state: 'encrypted' })
      await killed([[1, 'after']], 'rotate', 'kek', '--tenant', TENANT)
      await exact('rewrap', '--tenant', TENANT, ...SMALL)
      const { id } = await keyOf(ward)
      await exact('re-encrypt', '--kek', id, '--no-drain', ...SMALL)
      const reindex = ['reindex', '--tenant', TENANT, '--new-key', '--longest-transaction', '0', ...SMALL]
      expect(await killed([[6, 'after']], ...reindex)).toMatchObject({ resumed: true, remaining: 0 })
      await exact('rebind', ...SMALL)
      await exact('verify', ...SMALL)
      const shards = await Promise.all(
        ['1/2', '2/2'].map((shard) => json<Report>('verify', ...SMALL, '--shard', shard, '--restart')),
      )
      expect(shards.reduce((rows, { models }) => rows + (models[0]?.rows ?? 0), 0)).toBe(ROWS)
      const { code, stdout } = await ward.run('doctor', '--json')
      const findings = JSON.parse(stdout) as readonly Finding[]
      expect({ code, findings }).toMatchObject({ code: 3, findings: [{ problem: expect.stringMatching(/policy/) }] })
      const retired = await ward.plan('retire', { kek: id, longestTransactionMs: 0 })
      await sleep(1_800)
      expect(await killed([[1, 'after']], 'apply', retired)).toMatchObject({ verb: 'retire' })
      await ward.deploy({ cmks: ['two'], formerCmks: ['one'] })
      const move = await ward.plan('move', { tenant: TENANT })
      expect(await killed([[1, 'before']], 'apply', move)).toMatchObject({ verb: 'move', rowsWritten: 0 })
      await ward.deploy({ state: 'plaintext' })
      await exact('decrypt', '--field', 'patients.ssn', ...SMALL.slice(2))
      await readable(ward)
      const status = await ward.migrator.status({ tenant: TENANT })
      expect(status.models[0]).toMatchObject({ rows: ROWS })
    })
  },
)

describe.runIf(hasPostgres() && pgbouncerBinary() !== undefined)('past a PgBouncer', { timeout: 60_000 }, () => {
  const server = () => inject('postgres')?.url ?? ''

  it('that has no connection for the key store beside a transaction, the transaction fails; a store with a way of its own has one', async (context) => {
    const { url, stop } = await startPgbouncer(server(), { mode: 'transaction', poolSize: 1 })
    context.onTestFinished(stop)
    const ward = await openWard(context, { pooler: url, rows: 0 })
    /** In a transaction, before anything else is done for this tenant. */
    const save = (tenant: string) => {
      const row = { clinicId: tenant, email: 'p0@x.org', ssn: 'ssn-0' }
      return ward.app.dataSource.transaction((manager) =>
        ward.app.fieldseal.runAs({ tenant }, () => manager.getRepository(ward.app.patients().target).save(row)),
      )
    }
    await expect(save('one')).rejects.toMatchObject({ code: 'ERR_KEY_STORE_UNAVAILABLE' })
    expect(await ward.query('SELECT 1 FROM patients')).toEqual([])
    await ward.deploy({ keyStoreUrl: ward.url })
    await save('two')
    expect(await ward.query('SELECT "clinicId" FROM patients')).toEqual([{ clinicId: 'two' }])
  })

  it('that refuses a parameter of the connection, a command ends with a typed error that says where to look', async (context) => {
    const { url, stop } = await startPgbouncer(server(), { mode: 'transaction' })
    context.onTestFinished(stop)
    const ward = await openWard(context, { pooler: url, rows: 1 })
    const deployed = JSON.parse(ward.desk.env['DEPLOYED'] ?? '{}') as object
    ward.desk.env['DEPLOYED'] = JSON.stringify({ ...deployed, readOnly: true })
    const error = await refused(ward, 5, ['rewrap', '--tenant', TENANT])
    expect(error).toMatchObject({ code: 'ERR_DATABASE_UNAVAILABLE', details: { vendorCode: '08P01' } })
    expect(error.details['hint']).toMatch(/pooler/)
  })
})
