import { readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { changeCmk, createKeyFile } from '../../kms-local/src/manage-key-file.ts'
import { hasPostgres, useDatabase } from '@fieldseal/servers/vitest'
import type { KekRotation, Plan, Report, Status } from '@fieldseal/migrate'
import { beforeAll, describe, expect, it } from 'vitest'
import { CONFIG, createDesk } from './support/command.ts'

const SEED = path.join(import.meta.dirname, 'support/seed.ts')
const TENANT = ['--tenant', 'clinic-7'] as const
const C = ['--config', CONFIG] as const

describe('without a configuration', () => {
  const desk = createDesk()

  it('helps, with examples for every command', async () => {
    const help = await desk.run('--help')
    expect(help).toMatchObject({ code: 0, stderr: '' })
    expect(help.stdout).toMatch(/Exit codes/)
    const commands = [...help.stdout.matchAll(/^ {2}([a-z-]+)/gm)].map(([, name]) => name ?? '')
    for (const name of [
      'status',
      'verify',
      'doctor',
      'lock',
      'rotate',
      'rewrap',
      're-encrypt',
      'rebind',
      'reindex',
      'backfill',
      'decrypt',
      'plan',
      'apply',
    ])
      expect(commands).toContain(name)
    for (const args of [['status'], ['rotate', 'kek'], ['plan', 'shred'], ['apply']])
      expect((await desk.run(...args, '--help')).stdout).toMatch(/Examples:\n {2}\$ fieldseal/)
  }, 180_000)

  it('exits 2 for wrong usage and a missing or wrong configuration, and says what to do', async () => {
    const wrong = [['burn'], ['rewrap', '--shard', '5/4'], ['rewrap', '--rate', 'fast'], ['re-encrypt'], []]
    const codes = await Promise.all(wrong.map(async (args) => (await desk.run(...args)).code))
    expect(codes).toEqual(wrong.map(() => 2))
    const unnamed = await desk.run('decrypt', '--field', 'phone')
    expect(unnamed).toMatchObject({ code: 2 })
    expect(unnamed.stderr).toMatch(/name one field: --field patients.phone/)
    const missing = await desk.run('status')
    expect(missing).toMatchObject({ code: 2 })
    expect(missing.stderr).toMatch(/no fieldseal.config.ts in .*--config/)
    writeFileSync(path.join(desk.folder, 'fieldseal.config.mjs'), 'export default { sources: [] }')
    expect((await desk.run('status')).stderr).toMatch(/export default defineConfig/)
    writeFileSync(path.join(desk.folder, 'decorated.ts'), '@d class A { @d id!: string }\nexport default A')
    const decorated = await desk.run('status', '--config', 'decorated.ts')
    expect(decorated).toMatchObject({ code: 2 })
    expect(decorated.stderr).toMatch(/--import @oxc-node/)
    expect((await desk.run('status', '--import', 'nowhere')).code).toBe(2)
  }, 180_000)
})

describe.runIf(hasPostgres())('on PostgreSQL', () => {
  const database = useDatabase()
  const desk = createDesk()
  let first = ''
  beforeAll(async () => {
    desk.env['DATABASE_URL'] = database.url
    createKeyFile(desk.env['KEY_FILE'] ?? '', ['one', 'two'])
    const seeded = await desk.node(SEED, 'clinic-7', '40')
    expect(seeded.stderr).toBe('')
    first = seeded.stdout.trim()
  })
  const oldestKek = async () => {
    const { keys } = await desk.json<Status>('status', ...TENANT)
    return keys.find(({ purpose }) => purpose === 'wrap')?.id ?? ''
  }

  it('shows a status as text, JSON and HTML', async () => {
    const text = await desk.run('status', ...TENANT, '--html', 'report.html', ...C)
    expect(text).toMatchObject({ code: 0 })
    expect(text.stdout).toMatch(/patients +40/)
    expect(text.stdout + text.stderr).not.toContain('\u001B')
    expect(readFileSync(path.join(desk.folder, 'report.html'), 'utf8')).toMatch(/^<!doctype html>[\s\S]*<svg/)
    expect(await desk.json<Status>('status')).toMatchObject({ app: 'clinic', models: [{ rows: 40 }] })
  }, 180_000)

  it('locks ids, and exits 3 when one has changed', async () => {
    expect((await desk.run('lock', ...C)).code).toBe(0)
    expect(await desk.run('lock', '--check', ...C)).toMatchObject({ code: 0, stdout: 'nothing found\n' })
    const file = path.join(desk.folder, 'fieldseal.lock.json')
    writeFileSync(file, readFileSync(file, 'utf8').replace('"ssn"', '"social"'))
    const changed = await desk.run('lock', '--check', ...C)
    expect(changed).toMatchObject({ code: 3 })
    expect(changed.stdout).toMatch(/patients.social/)
    writeFileSync(file, '{')
    expect((await desk.run('lock', '--check', ...C)).code).toBe(2)
  }, 180_000)

  it('rotates, rewraps with progress as JSON lines, and verifies', async () => {
    expect(await desk.json('rotate', 'kek', ...TENANT, '--keyspace', `subject:patient:${first}`)).toMatchObject({
      rotated: [{ version: 2 }],
    })
    expect((await desk.run('rotate', 'kek', '--due', ...C)).code).toBe(0)
    const dry = await desk.json<Report>('rewrap', ...TENANT, '--dry-run')
    expect(dry).toMatchObject({ dryRun: true })
    const rewrapped = await desk.run('rewrap', ...TENANT, '--batch', '10', '--json', ...C)
    expect(rewrapped.code).toBe(0)
    expect(JSON.parse(rewrapped.stdout)).toMatchObject({ models: [{ rows: 40, updated: 1, remaining: 0 }] })
    const line = JSON.parse(rewrapped.stderr.trim().split('\n')[0] ?? '') as { progress: object }
    expect(line.progress).toMatchObject({ verb: 'rewrap', model: 'patients', total: 40 })
    const verified = await desk.run('verify', ...TENANT, ...C)
    expect(verified).toMatchObject({ code: 0 })
    expect(verified.stdout).toMatch(/80 values, 40 tokens/)
    changeCmk(desk.env['KEY_FILE'] ?? '', 'one', 'rotate')
    expect(await desk.json('rotate', 'cmk', ...TENANT)).toMatchObject({ unchanged: 0 })
    expect((await desk.run('doctor', ...TENANT, ...C)).stdout).toBe('nothing found\n')
  }, 180_000)

  it('gives a tenant new index keys, says what it waits for, and goes on after kill -9', async () => {
    const reindex = ['reindex', ...TENANT, '--new-key', '--longest-transaction', '0', '--json', ...C]
    const { child, ended } = desk.start(...reindex)
    child.stderr?.once('data', () => child.kill('SIGKILL'))
    expect((await ended).code).toBeNull()
    const moved = await desk.run(...reindex)
    expect(moved).toMatchObject({ code: 0 })
    expect(JSON.parse(moved.stdout)).toMatchObject({
      verb: 'reindex',
      resumed: true,
      models: [{ rows: 40, remaining: 0 }],
    })
    expect(moved.stderr).toMatch(/"wait":\{"why":"processes that look up the old tokens"/)
    expect((await desk.run('verify', ...TENANT, ...C)).stdout).toMatch(/80 values, 40 tokens/)
    const { keys, models } = await desk.json<Status>('status', ...TENANT)
    const states = keys.filter(({ purpose }) => purpose === 'index').map(({ state }) => state)
    expect(states.toSorted()).toEqual(['active', 'retired'])
    expect(models[0]?.indexes).toMatchObject([{ epochs: { 2: 40 } }])
    expect((await desk.run('reindex', '--field', 'ssn', ...C)).code).toBe(2)
    expect((await desk.run('reindex', '--dry-run', ...C)).stdout).toMatch(/is as it should be/)
  }, 180_000)

  it('goes on from the checkpoint after SIGINT, which exits 130', async () => {
    const { child, ended } = desk.start('verify', '--batch', '2', '--rate', '10', ...C)
    child.stderr?.once('data', () => child.kill('SIGINT'))
    const interrupted = await ended
    expect(interrupted).toMatchObject({ code: 130 })
    expect(interrupted.stderr).toMatch(/checkpoint is kept/)
    expect(await desk.json<Report>('verify', '--batch', '2')).toMatchObject({ resumed: true, remaining: 0 })
  }, 180_000)

  it('goes on from the checkpoint after kill -9', async () => {
    const { child, ended } = desk.start('verify', '--batch', '3', '--rate', '10', ...C)
    let lines = 0
    // The checkpoint of the first line is written by the time of the second.
    child.stderr?.on('data', () => ++lines === 2 && child.kill('SIGKILL'))
    expect((await ended).code).toBeNull()
    const report = await desk.json<Report>('verify', '--batch', '3')
    expect(report).toMatchObject({ resumed: true, models: [{ rows: 40, unchanged: 40 }] })
  }, 180_000)

  it('moves to another CMK by plan and apply, and exits 4 when the plan is out of date', async () => {
    Object.assign(desk.env, { CMKS: 'two', FORMER_CMKS: 'one' })
    const planned = await desk.run('plan', 'move', ...TENANT, '--out', 'move.json', ...C)
    expect(planned).toMatchObject({ code: 0 })
    expect(planned.stdout).toMatch(/no row is written/)
    await desk.run('rotate', 'kek', ...TENANT, ...C)
    expect(await desk.run('apply', 'move.json', ...C)).toMatchObject({ code: 4 })
    await desk.run('plan', 'move', ...TENANT, '--out', 'move.json', ...C)
    expect(await desk.json('apply', 'move.json')).toMatchObject({ verb: 'move', rowsWritten: 0 })
    desk.env['FORMER_CMKS'] = ''
    expect((await desk.run('verify', ...TENANT, ...C)).code).toBe(0)
  }, 180_000)

  it('refuses to retire a key that is needed', async () => {
    const kek = await oldestKek()
    const planned = await desk.run(
      'plan',
      'retire',
      '--kek',
      kek,
      '--longest-transaction',
      '0',
      '--out',
      'r.json',
      ...C,
    )
    expect(planned.code).toBe(0)
    expect((await desk.run('apply', 'r.json', ...C)).code).toBe(4)
    expect((await desk.run('plan', 'retire', '--kek', 'nothing', '--out', 'r.json', ...C)).code).toBe(2)
  }, 180_000)

  it('erases a person: asks for the name, exits 4 without it, and the report says what remains', async () => {
    const keyspace = `subject:patient:${first}`
    const plan = await desk.json<Plan>('plan', 'shred', ...TENANT, '--keyspace', keyspace, '--out', 'shred.json')
    expect(plan.confirm).toBe(keyspace)
    expect(await desk.run('apply', 'shred.json', ...C)).toMatchObject({ code: 4 })
    const applied = await desk.run('apply', 'shred.json', '--confirm', keyspace, ...C)
    expect(applied).toMatchObject({ code: 0 })
    expect(applied.stdout).toMatch(/pending[\s\S]*1 rows of patients[\s\S]*backups[\s\S]*unsigned/)
    expect(await desk.run('apply', 'shred.json', '--confirm', keyspace, ...C)).toMatchObject({ code: 4 })
    expect(await desk.json<Report>('verify', ...TENANT)).toMatchObject({ models: [{ erased: 1, unchanged: 39 }] })
    expect((await desk.run('apply', '--cancel', 'shred.json', ...C)).code).toBe(0)
    expect(await desk.json<Report>('verify', ...TENANT)).toMatchObject({ models: [{ erased: 0, unchanged: 40 }] })
  }, 180_000)

  it('rotates what is due of other tenants where one is denied, exits 5, and the report says what was done and what not', async () => {
    const keyFile = desk.env['KEY_FILE'] ?? ''
    changeCmk(keyFile, 'of-8', 'add')
    Object.assign(desk.env, { 'CMKS of clinic-8': 'of-8', 'CMKS of clinic-9': desk.env['CMKS'], MAX_WRAPS: '1' })
    for (const tenant of ['clinic-8', 'clinic-9']) expect((await desk.node(SEED, tenant, '1')).stderr).toBe('')
    changeCmk(keyFile, 'of-8', 'disable')
    const due = await desk.run('rotate', 'kek', '--due', '--json', ...C)
    expect(due.code).toBe(5)
    const { error, report } = JSON.parse(due.stdout) as { error: object; report: KekRotation }
    expect(error).toMatchObject({ code: 'ERR_KMS_KEY_DISABLED', details: { tenant: 'clinic-8' } })
    expect(report.failures).toMatchObject([{ tenant: 'clinic-8', code: 'ERR_KMS_KEY_DISABLED' }])
    expect(new Set(report.rotated.map(({ tenant }) => tenant))).toEqual(new Set(['clinic-7', 'clinic-9']))
    const told = await desk.run('rotate', 'kek', '--due', ...C)
    expect(told).toMatchObject({ code: 5 })
    expect(told.stdout).toMatch(/not done: clinic-8 subject:patient:\S+: ERR_KMS_KEY_DISABLED; have its owner allow it/)
    expect(told.stderr).toMatch(/^fieldseal: ERR_KMS_KEY_DISABLED/)
    changeCmk(keyFile, 'of-8', 'enable')
    delete desk.env['MAX_WRAPS']
  }, 180_000)

  it('exits 3 while rows remain, with the report, and 5 when the key is denied or the database does not answer', async () => {
    const configured = desk.env['CMKS'] ?? '' // another one after the move
    changeCmk(desk.env['KEY_FILE'] ?? '', configured, 'disable')
    expect((await desk.run('rotate', 'kek', ...TENANT, ...C)).code).toBe(5)
    const remains = await desk.run('verify', ...TENANT, '--json', ...C)
    expect(remains.code).toBe(3)
    expect(JSON.parse(remains.stdout)).toMatchObject({
      error: { code: 'ERR_ROWS_REMAIN' },
      report: { models: [{ denied: 40 }] },
    })
    expect((await desk.run('doctor', ...TENANT, ...C)).code).toBe(3)
    changeCmk(desk.env['KEY_FILE'] ?? '', configured, 'enable')
    expect((await desk.run('verify', ...TENANT, ...C)).code).toBe(0)
    desk.env['DATABASE_URL'] = 'postgres://localhost:1/nothing'
    const silent = await desk.run('status', ...C)
    expect(silent).toMatchObject({ code: 5 })
    expect(silent.stderr).toMatch(/ERR_DATABASE_UNAVAILABLE.*connection to \S+:1 failed.*see that it runs/)
  }, 180_000)
})
