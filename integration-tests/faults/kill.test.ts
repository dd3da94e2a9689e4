import { setTimeout as sleep } from 'node:timers/promises'
import type { Report, Status } from '@fieldseal/migrate'
import { hasPostgres } from '@fieldseal/servers/vitest'
import { describe, expect, it } from 'vitest'
import { changeCmk } from '../../packages/kms-local/src/manage-key-file.ts'
import { openWard, readable, ROWS, TENANT, type Ward } from './support/ward.ts'

const SMALL = ['--batch', '5', '--concurrency', '2']
const OF_TENANT = ['--tenant', TENANT]

async function wrapKeys({ migrator }: Ward): Promise<Status['keys']> {
  const { keys } = await migrator.status()
  return keys.filter(({ purpose, keyspace }) => purpose === 'wrap' && keyspace === 'default')
}

/** Every row was counted once by the last walk, and nothing is left to be done. */
function exact({ models, remaining, resumed }: Report): void {
  const [model] = models
  expect(model).toMatchObject({ rows: ROWS, failed: 0 })
  expect({ remaining, resumed }).toEqual({ remaining: 0, resumed: true })
  const { passes, updated, unchanged } = model ?? expect.unreachable()
  expect(passes > 1 ? unchanged : updated + unchanged).toBe(ROWS)
}

async function verified({ migrator }: Ward): Promise<void> {
  const { models } = await migrator.verify({ model: 'patients' })
  expect(models).toMatchObject([{ rows: ROWS, failed: 0, counts: { values: 2 * ROWS, tokens: ROWS } }])
}

const plaintexts = async ({ query }: Ward) =>
  Number(
    (await query(`SELECT count(*) FROM patients WHERE email NOT LIKE 'fs.%' OR ssn NOT LIKE 'fs.%'`))[0]?.['count'],
  )

describe.runIf(hasPostgres())('kill -9 in the middle of', { timeout: 120_000 }, () => {
  it.concurrent('rewrap, which goes on until no row is under the old key', async (context) => {
    const ward = await openWard(context)
    await ward.migrator.rotateKek({ tenant: TENANT })
    const blows = [[4, 'after'] as const, [3, 'before'] as const, [4, 'before'] as const]
    exact(await ward.killed(blows, 'rewrap', ...OF_TENANT, ...SMALL))
    expect((await ward.migrator.status({ tenant: TENANT })).rewrap).toMatchObject({ older: 0, exact: true })
    await verified(ward)
  })

  it.concurrent('re-encrypt, which leaves no row under the leaked key', async (context) => {
    const ward = await openWard(context)
    const [leaked] = await wrapKeys(ward)
    const blows = [[1, 'after'] as const, [4, 'before'] as const, [5, 'after'] as const]
    exact(await ward.killed(blows, 're-encrypt', '--kek', leaked?.id ?? '', '--no-drain', ...SMALL))
    const keys = await wrapKeys(ward)
    expect(keys.find(({ id }) => id === leaked?.id)).toMatchObject({ rows: 0, rowsExact: true, compromised: true })
    await verified(ward)
  })

  it.concurrent('rebind, which binds every row', async (context) => {
    const ward = await openWard(context, { bindRow: 'never' })
    await ward.deploy({ bindRow: 'when-known' })
    const blows = [[2, 'after'] as const, [4, 'before'] as const]
    exact(await ward.killed(blows, 'rebind', '--model', 'patients', ...SMALL))
    await verified(ward)
    // The envelope says whether it is bound: the lowest bit of its sixteenth byte.
    const rows = await ward.query('SELECT email, ssn FROM patients')
    const bound = rows.flatMap(Object.values).map((text) => Buffer.from(String(text).slice(3), 'base64url')[15])
    expect(bound).toEqual(bound.map(() => 1))
  })

  it.concurrent('backfill of tokens, backfill and decrypt: every value is plaintext or sealed, never lost', async (context) => {
    const ward = await openWard(context, { state: 'plaintext', plaintext: true })
    exact(await ward.killed([[4, 'after']], 'backfill', '--model', 'patients', ...SMALL))
    expect(await ward.query('SELECT 1 FROM patients WHERE email_bidx IS NULL')).toEqual([])
    await ward.deploy({ state: 'migrating' })
    const blows = [[2, 'before'] as const, [4, 'after'] as const]
    exact(await ward.killed(blows, 'backfill', '--model', 'patients', ...SMALL))
    expect(await plaintexts(ward)).toBe(0)
    await verified(ward)
    await ward.deploy({ state: 'plaintext' })
    exact(await ward.killed(blows, 'decrypt', '--field', 'patients.email', ...SMALL))
    exact(await ward.killed([[4, 'after']], 'decrypt', '--field', 'patients.ssn', ...SMALL))
    await readable(ward)
    expect(await ward.query("SELECT 1 FROM patients WHERE email LIKE 'fs.%' OR ssn LIKE 'fs.%'")).toEqual([])
  })

  it.concurrent('reindex, while every row is found by its value', async (context) => {
    const ward = await openWard(context)
    const args = ['reindex', ...OF_TENANT, '--model', 'patients', '--new-key', '--longest-transaction', '0', ...SMALL]
    const blows = [[3, 'after'] as const, [3, 'before'] as const, [6, 'after'] as const]
    expect(await ward.killed(blows, ...args)).toMatchObject({ resumed: true, remaining: 0, models: [{ rows: ROWS }] })
    await verified(ward)
    const { models } = await ward.migrator.status({ tenant: TENANT, model: 'patients' })
    expect(models[0]?.indexes).toMatchObject([{ epochs: { 2: ROWS } }])
  })

  it.concurrent('verify, which opens every row once more at most', async (context) => {
    const ward = await openWard(context)
    const blows = [[2, 'after'] as const, [2, 'before'] as const]
    exact(await ward.killed(blows, 'verify', '--model', 'patients', ...SMALL))
  })

  it.concurrent('rotate kek and rotate cmk, which leave keys that open and wrap', async (context) => {
    const ward = await openWard(context)
    await ward.killed(
      [
        [1, 'after'],
        [2, 'before'],
      ],
      'rotate',
      'kek',
      ...OF_TENANT,
    )
    const states = (await wrapKeys(ward)).map(({ state }) => state)
    expect(states.filter((state) => state === 'active').length).toBeGreaterThan(0)
    changeCmk(ward.desk.env['KEY_FILE'] ?? '', 'one', 'rotate')
    const blows = [[1, 'after'] as const, [1, 'before'] as const]
    await ward.killed(blows, 'rotate', 'cmk', ...OF_TENANT)
    const { keys } = await ward.migrator.status({ tenant: TENANT })
    const versions = keys.flatMap(({ wraps }) => wraps.map(({ keyVersion }) => keyVersion))
    expect(versions).toEqual(versions.map(() => '2'))
    await verified(ward)
  })

  it.concurrent('apply of a move, after which no key needs the former CMK', async (context) => {
    const ward = await openWard(context)
    await ward.deploy({ cmks: ['two'], formerCmks: ['one'] })
    const plan = await ward.plan('move', { tenant: TENANT })
    const applied = await ward.killed(
      [
        [2, 'after'],
        [2, 'before'],
      ],
      'apply',
      plan,
    )
    expect(applied).toMatchObject({ verb: 'move', rowsWritten: 0 })
    await ward.deploy({ formerCmks: [] })
    changeCmk(ward.desk.env['KEY_FILE'] ?? '', 'one', 'destroy')
    await verified(ward)
  })

  it.concurrent('apply of a retirement', async (context) => {
    const ward = await openWard(context)
    const [old] = await wrapKeys(ward)
    await ward.migrator.rotateKek({ tenant: TENANT })
    await ward.migrator.rewrap({ tenant: TENANT })
    const plan = await ward.plan('retire', { kek: old?.id ?? '', longestTransactionMs: 0 })
    await sleep(1_800)
    const applied = await ward.killed(
      [
        [1, 'after'],
        [1, 'after'],
      ],
      'apply',
      plan,
    )
    expect(applied).toMatchObject({ verb: 'retire', state: 'retired' })
    await verified(ward)
  })

  it.concurrent('apply of a shred: what was to go is gone, and nothing else', async (context) => {
    const ward = await openWard(context)
    const keyspace = 'subject:patient:1'
    const plan = await ward.plan('shred', { tenant: TENANT, keyspace, destroyAfterDays: 0 })
    const apply = ['apply', plan, '--confirm', keyspace]
    ward.notes = ['0']
    const blows = [[2, 'after'] as const, [2, 'before'] as const, [2, 'after'] as const]
    const applied = await ward.killed(blows, ...apply)
    expect(applied).toMatchObject({ report: { state: 'destroyed', tokensCleared: 3 } })
    const reading = ward.as(() => ward.app.notes().findBy({ clinicId: TENANT, patient: '1' }))
    await expect(reading).rejects.toMatchObject({ kind: 'erased' })
    expect(await ward.query('SELECT 1 FROM notes WHERE patient = $1 AND text_bidx IS NOT NULL', ['1'])).toEqual([])
    await readable(ward)
  })
})
