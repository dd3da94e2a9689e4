import { existsSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { type PostgresProcess, startOwnPostgres } from '@fieldseal/servers'
import { hasPostgres } from '@fieldseal/servers/vitest'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { giveToOwnerOf, mountSmallDisk } from './support/small-disk.ts'
import { refused } from './support/told.ts'
import { alongside, openWard, readable, TENANT, type Ward } from './support/ward.ts'

const SMALL = ['--batch', '50', '--concurrency', '2']
const ROWS = 400
const FULL = { kind: 'unavailable', details: { reason: 'its disk is full', hint: expect.stringMatching(/make room/) } }

/** From now on a table says what PostgreSQL says when its disk is full, once so many rows were written. */
async function fillTable({ query }: Ward, table: string, after: number): Promise<void> {
  await query('CREATE SEQUENCE written')
  await query(`
    CREATE FUNCTION is_full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      IF nextval('written') > ${after} THEN
        RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100';
      END IF;
      RETURN NEW;
    END $$`)
  await query(`CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON ${table} FOR EACH ROW EXECUTE FUNCTION is_full()`)
}

const isFull = (error: unknown) => Reflect.get(Object(error), 'code') === '53100'

describe('a full disk', { timeout: 60_000 }, () => {
  let server: PostgresProcess | undefined
  beforeAll(async () => {
    if (hasPostgres()) server = await startOwnPostgres()
  })
  afterAll(() => server?.stop())

  it('of the database stops a rewrap, which goes on when there is room', async (context) => {
    if (server === undefined) return context.skip('no binaries of PostgreSQL here')
    const disk = mountSmallDisk(8)
    if (typeof disk === 'string') return context.skip(disk)
    context.onTestFinished(() => disk.remove())
    const ward = await openWard(context, { server: server.url, rows: ROWS })
    await ward.migrator.rotateKek({ tenant: TENANT })
    const [row] = await ward.query("SELECT current_setting('data_directory') AS folder")
    giveToOwnerOf(String(row?.['folder']), disk.folder)
    await ward.query(`CREATE TABLESPACE small LOCATION '${disk.folder}'`)
    await ward.query('ALTER TABLE patients SET TABLESPACE small')
    const report = await alongside(
      ward,
      async () => {
        // A long transaction keeps old versions of rows, so that the table has to grow.
        const report = ward.app.dataSource.createQueryRunner()
        await report.startTransaction('REPEATABLE READ')
        await report.query('SELECT count(*) FROM patients')
        disk.fill(128 << 10)
        expect(await refused(ward, 5, ['rewrap', ...SMALL])).toMatchObject({
          code: 'ERR_DATABASE_UNAVAILABLE',
          ...FULL,
        })
        disk.makeRoom()
        await report.rollbackTransaction()
        await report.release()
        return ward.json('rewrap', ...SMALL)
      },
      isFull,
    )
    expect(report).toMatchObject({ resumed: true, remaining: 0, models: [{ rows: ROWS, failed: 0 }, { rows: 6 }] })
    await readable(ward)
  })

  describe.runIf(hasPostgres())('as the database tells it', () => {
    it('in the middle of a backfill', async (context) => {
      const ward = await openWard(context, { rows: 100, state: 'plaintext', plaintext: true })
      await ward.migrator.backfill()
      await ward.deploy({ state: 'migrating' })
      await fillTable(ward, 'patients', 45)
      const args = ['backfill', '--batch', '10', '--concurrency', '2']
      expect(await refused(ward, 5, args)).toMatchObject({ code: 'ERR_DATABASE_UNAVAILABLE', ...FULL })
      await ward.query('DROP TRIGGER full_disk ON patients')
      const report = await ward.json('backfill', '--batch', '10')
      expect(report).toMatchObject({ resumed: true, remaining: 0, models: [{ rows: 100, failed: 0 }, { rows: 0 }] })
      await readable(ward)
    })

    it('where the checkpoints are, and where the keys are', async (context) => {
      const ward = await openWard(context)
      await fillTable(ward, 'fieldseal_checkpoints', 2)
      const verify = ['verify', '--batch', '5']
      expect(await refused(ward, 5, verify)).toMatchObject({ code: 'ERR_DATABASE_UNAVAILABLE', ...FULL })
      await ward.query('DROP TRIGGER full_disk ON fieldseal_checkpoints')
      await ward.query(
        'CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON fieldseal_keys FOR EACH ROW EXECUTE FUNCTION is_full()',
      )
      const rotate = ['rotate', 'kek', '--tenant', TENANT]
      expect(await refused(ward, 5, rotate)).toMatchObject({ code: 'ERR_KEY_STORE_UNAVAILABLE', ...FULL })
      await ward.query('DROP TRIGGER full_disk ON fieldseal_keys')
      expect(await ward.json(...verify)).toMatchObject({ resumed: true, remaining: 0 })
      expect(await ward.json(...rotate)).toMatchObject({ rotated: [{ version: 2 }] })
      await readable(ward)
    })
  })
})

describe.runIf(hasPostgres())('a file that cannot be written', { timeout: 60_000 }, () => {
  it('ends the command with the reason, exit 2, and leaves what was there', async (context) => {
    const ward = await openWard(context, { rows: 1 })
    const { folder } = ward.desk
    for (const [args, why] of [
      [['plan', 'move', '--tenant', TENANT, '--out', 'nowhere/move.json'], /nowhere.move\.json: .*no such folder/],
      [['status', '--html', '.'], /it is a folder/],
      ...(existsSync('/dev/full')
        ? [[['plan', 'move', '--tenant', TENANT, '--out', '/dev/full'], /\/dev\/full: .*no room/] as const]
        : []),
    ] as const) {
      const { code, stdout, stderr } = await ward.run(...args)
      expect([code, stdout]).toEqual([2, ''])
      expect(stderr).toMatch(why)
    }
    expect(readdirSync(folder).filter((name) => name.endsWith('.tmp'))).toEqual([])
  })

  it('is left as it was when there is room for a part of the new one only', async (context) => {
    const disk = mountSmallDisk(1)
    if (typeof disk === 'string') return context.skip(disk)
    context.onTestFinished(() => disk.remove())
    const ward = await openWard(context, { rows: 1 })
    const report = path.join(disk.folder, 'report.html')
    expect((await ward.run('status', '--html', report)).code).toBe(0)
    const before = readFileSync(report, 'utf8')
    const PAGE = 4096
    disk.fill((Math.ceil(before.length / PAGE) - 1) * PAGE)
    const { code, stderr } = await ward.run('status', '--html', report)
    expect(code).toBe(2)
    expect(stderr).toMatch(/no room/)
    expect(readFileSync(report, 'utf8')).toBe(before)
    expect(readdirSync(disk.folder).toSorted()).toEqual(['filler', 'report.html'])
  })

  it.runIf(existsSync('/dev/full'))(
    'says that the report of a shred was lost, and prints it when applied again',
    async (context) => {
      const ward = await openWard(context)
      const keyspace = 'subject:patient:1'
      const plan = await ward.plan('shred', { tenant: TENANT, keyspace, destroyAfterDays: 0 })
      const apply = ['apply', plan, '--confirm', keyspace]
      const lost = await ward.shell(`$FIELDSEAL ${apply.join(' ')} --json --config $CONFIG > /dev/full`).ended
      expect(lost.code).toBe(1)
      expect(lost.stderr).toMatch(/the result could not be written: ENOSPC.*same command again/)
      ward.notes = ['0']
      await readable(ward)
      expect(await ward.json(...apply)).toMatchObject({ report: { state: 'destroyed', tokensCleared: 3 } })
    },
  )
})
