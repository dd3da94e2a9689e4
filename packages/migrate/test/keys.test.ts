import { findKey, type KekId, type KeyStoreRecord, type ModelDeclaration } from '@fieldseal/core/adapter'
import { memoryKeyStore } from '@fieldseal/testkit'
import { expect, it } from 'vitest'
import { reportOf } from '../src/report/report.ts'
import { rotationOf } from '../src/verbs/rotate-kek.ts'
import { clinic, PATIENTS, range } from './support/clinic.ts'

const DAY = 86_400_000

function kekOf(cell: unknown): KekId {
  return Buffer.from(cell as Uint8Array).toString('hex', 3, 15) as KekId
}

it('rotates what the policy says is due, warns ahead, and leaves the rest alone', async () => {
  const { migrator, fill, fillNotes, clock, fieldseal } = clinic({ policy: { maxAgeDays: 90, warnDays: 10 } })
  const heard: unknown[] = []
  fieldseal.on('kek.due', (event) => heard.push(event))
  await fill('a', range(0, 2))
  clock.advance(85 * DAY)
  await fillNotes('b', [1])
  expect(await migrator.rotateKek({ due: true })).toMatchObject({
    rotated: [],
    due: [{ tenant: 'a', why: 'age', overdue: false }],
  })
  clock.advance(6 * DAY)
  expect(await migrator.rotateKek({ due: true, dryRun: true })).toMatchObject({ rotated: [], due: [{ overdue: true }] })
  expect(await migrator.rotateKek({ due: true })).toMatchObject({
    rotated: [{ tenant: 'a', keyspace: 'default', version: 2 }],
  })
  expect(await migrator.rotateKek({ due: true })).toMatchObject({ rotated: [], due: [] })
  expect(heard).toMatchObject([{ overdue: false }, { overdue: true }, { overdue: true }])
})

it('rotates by the number of rows under a key', async () => {
  const { migrator, fill } = clinic({ policy: { maxWraps: 5 } })
  await fill('a', range(0, 4))
  expect((await migrator.rotateKek({ due: true })).rotated).toEqual([])
  await fill('a', range(4, 5))
  expect((await migrator.rotateKek({ due: true })).rotated).toHaveLength(1)
})

it('tells of too many versions, then rewraps', async () => {
  const { migrator, fill, fieldseal } = clinic({ policy: { maxLiveVersions: 2 } })
  const heard: unknown[] = []
  fieldseal.on('kek.versions', (event) => heard.push(event))
  await fill('a', range(0, 3))
  await migrator.rotateKek({ tenant: 'a' })
  expect((await migrator.rotateKek({ due: true })).rewraps).toEqual([])
  expect(heard).toEqual([{ tenant: 'a', keyspace: 'default', live: 2, allowed: 2 }])
  await migrator.rotateKek({ tenant: 'a' })
  const { rewraps } = await migrator.rotateKek({ due: true })
  expect(rewraps).toMatchObject([{ tenant: 'a', remaining: 0, models: [{ updated: 3 }, {}] }])
})

it('makes no key of a keyspace that nobody knows: that is a slip of the pen, or for prepare', async () => {
  const { migrator, fill } = clinic()
  await fill('a', [1])
  for (const due of [false, true])
    await expect(migrator.rotateKek({ tenant: 'a', keyspace: 'class:typo', due })).rejects.toMatchObject({
      code: 'ERR_ARGUMENT_INVALID',
      details: { field: 'keyspace' },
    })
})

it('refuses an unknown option of the policy', () => {
  expect(() => clinic({ policy: { maxAge: 3 } as never })).toThrow(/policy.maxAge/)
  expect(() => clinic({ policy: { maxAgeDays: 0 } })).toThrow(/policy.maxAgeDays/)
})

it('gives new DEKs to what a leaked key could open, also where a rewrap has carried it', async () => {
  const { migrator, fill, fillNotes, source, fieldseal, readAll, as, clock } = clinic()
  await fill('a', range(0, 4))
  await fillNotes('a', [1])
  const cells = () => [...(source.rows.get('patients')?.values() ?? [])].map(({ cells: all }) => all['ssn'])
  const leaked = kekOf(cells()[0])
  await migrator.rotateKek({ tenant: 'a' })
  await migrator.rewrap({ tenant: 'a' }) // the old DEKs are now under the second key
  const before = cells().map((cell) => Buffer.from(cell as Uint8Array).subarray(84))
  const tokens = JSON.stringify([...(source.rows.get('patients')?.values() ?? [])].map((row) => row.tokens))
  const told: string[] = []
  const running = migrator.reEncrypt({ kek: leaked, drain: false, onProgress: ({ model }) => told.push(model) })
  const report = await running
  expect(report).toMatchObject({ verb: 're-encrypt', tenant: 'a', remaining: 0 })
  expect(report.models).toMatchObject([{ updated: 4 }, { updated: 1 }])
  expect(report.notes.join()).toMatch(/backups/)
  for (const [i, cell] of cells().entries()) expect(Buffer.from(cell as Uint8Array).subarray(84)).not.toEqual(before[i])
  expect(JSON.stringify([...(source.rows.get('patients')?.values() ?? [])].map((row) => row.tokens))).toBe(tokens)
  expect(await readAll('a', range(0, 4))).toBe(true)
  expect(await as('a', () => source.read('notes', { id: 1 }))).toEqual({ text: 'note 1' })
  expect(await findKey(fieldseal, leaked)).toMatchObject({ compromised: true })
  const newest = kekOf(cells()[0])
  expect(await findKey(fieldseal, newest)).toMatchObject({ compromised: false, version: 3 })
  // Run again, it finds all done and condemns no further key.
  clock.advance(1_000)
  expect((await migrator.reEncrypt({ kek: leaked, drain: false })).models).toMatchObject([
    { updated: 0 },
    { updated: 0 },
  ])
  expect(await findKey(fieldseal, newest)).toMatchObject({ compromised: false })
  expect(told).toEqual(['patients', 'notes'])
})

it('tells in a dry run how many rows a leak reaches, and condemns no key', async () => {
  const { migrator, fill, fillNotes, source, fieldseal } = clinic()
  await fill('a', range(0, 4))
  await fillNotes('a', [1, 2])
  const [row] = source.rows.get('patients')?.values() ?? []
  const kek = kekOf(row?.cells['ssn'])
  await migrator.rotateKek({ tenant: 'a' })
  await migrator.rewrap({ tenant: 'a' })
  const report = await migrator.reEncrypt({ kek, dryRun: true })
  expect(report).toMatchObject({ dryRun: true, remaining: 6, models: [{ remaining: 4 }, { remaining: 2 }] })
  expect(await findKey(fieldseal, kek)).toMatchObject({ compromised: false })
})

it('refuses to re-encrypt for what is no wrapping key', async () => {
  const { migrator, fill, keyStore } = clinic()
  await fill('a', [1])
  const index = [...keyStore.rows.keys()].find((id) => keyStore.rows.get(id)?.includes('"purpose":"index"'))
  for (const kek of ['f'.repeat(24), index ?? ''])
    await expect(migrator.reEncrypt({ kek })).rejects.toMatchObject({ code: 'ERR_ARGUMENT_INVALID' })
})

it('counts rows only when running processes have heard that the key is compromised', async () => {
  const { migrator, fill, source, clock, fieldseal } = clinic()
  await fill('a', range(0, 2))
  const [row] = source.rows.get('patients')?.values() ?? []
  const waits: string[] = []
  let waitedMs = 0
  const report = await migrator.reEncrypt({
    kek: kekOf(row?.cells['ssn']),
    onWait({ why, remainingMs }) {
      waits.push(why)
      waitedMs += remainingMs + 1
      clock.advance(remainingMs + 1)
    },
  })
  expect(waits).toEqual(['processes that write under the leaked key'])
  expect(waitedMs).toBeGreaterThan(fieldseal.revocationBoundMs('a').reachable)
  expect(report).toMatchObject({ remaining: 0 })
})

it('binds what is bound to no row, and says what it could not', async () => {
  const { migrator, fill, source, as } = clinic()
  await fill('a', range(0, 3))
  const rows = source.rows.get('patients')
  const [[key, row] = ['', undefined]] = rows ?? []
  if (row === undefined) return expect.unreachable()
  rows?.delete(key)
  rows?.set('[50]', { ...row, columns: { ...row.columns, id: 50 } })
  const formerKey = ({ id }: Readonly<Record<string, unknown>>) => (id === 50 ? { id: 1 } : undefined)
  const error: unknown = await migrator.rebind({ model: 'patients', formerKey }).catch((e: unknown) => e)
  expect(reportOf(error)?.models[0]).toMatchObject({ failed: 1, failures: [{ key: '50', code: 'ERR_DECRYPT_FAILED' }] })
  await migrator.rebind({ model: 'patients', formerKey: ({ id }) => (id === 50 ? { id: 0 } : undefined) })
  expect(await as('a', () => source.read('patients', { id: 50 }))).toMatchObject({ ssn: 'ssn-0' })
})

it('binds renumbered rows of mode direct by their former key, also while a KEK wraps some of their values', async () => {
  const patients = (options: object): ModelDeclaration => ({
    ...PATIENTS,
    options: { ...PATIENTS.options, ...options },
  })
  const kek = clinic({}, [patients({})])
  const app = clinic({ keyStore: kek.keyStore, keys: { cmks: [kek.kms.cmk('cmk-1')] } }, [
    patients({ mode: 'direct', accepts: ['kek'] }),
  ])
  await app.fill('a', range(0, 3))
  await kek.fill('a', [3])
  const rows = app.source.rows.get('patients')
  const stored = [app, kek].flatMap(({ source }) => [...(source.rows.get('patients')?.values() ?? [])])
  rows?.clear()
  for (const row of stored) {
    const id = Number(row.columns['id']) + 100
    rows?.set(`[${id}]`, { ...row, columns: { ...row.columns, id } })
  }
  const formerKey = ({ id }: Readonly<Record<string, unknown>>) => ({ id: Number(id) - 100 })
  expect(await app.migrator.rebind({ formerKey })).toMatchObject({ remaining: 0, models: [{ updated: 4 }] })
  for (const id of range(100, 104)) expect(await app.read('a', id)).toMatchObject({ ssn: `ssn-${id - 100}` })
  expect(await app.migrator.rebind({ formerKey })).toMatchObject({ remaining: 0, models: [{ updated: 0 }] })
})

const eachWithItsCmk = () => {
  const app: ReturnType<typeof clinic> = clinic({ keys: async (tenant) => ({ cmks: [app.kms.cmk(`cmk-${tenant}`)] }) })
  return app
}

it('rotates what is due of other tenants although the CMKs of two are denied, and its refusal tells of all', async () => {
  const { migrator, fill, kms, clock } = eachWithItsCmk()
  for (const tenant of ['a', 'b', 'c', 'd']) await fill(tenant, [tenant.charCodeAt(0)])
  clock.advance(400 * 86_400_000)
  for (const tenant of ['b', 'd']) kms.deny(`cmk-${tenant}`)
  const error: unknown = await migrator.rotateKek({ due: true }).catch((e: unknown) => e)
  expect(error).toMatchObject({ kind: 'denied', details: { tenant: 'b' } })
  expect(String(error)).toMatch(/hint: have its owner allow it.*; so it is with 1 other tenant/)
  const rotation = rotationOf(error)
  expect(rotation?.rotated.map(({ tenant }) => tenant)).toEqual(['a', 'c'])
  expect(rotation?.due).toHaveLength(4)
  expect(rotation?.failures).toMatchObject([
    { tenant: 'b', keyspace: 'default', code: 'ERR_KMS_ACCESS_DENIED' },
    { tenant: 'd', keyspace: 'default', code: 'ERR_KMS_ACCESS_DENIED' },
  ])
  expect(rotation?.failures.map(({ hint }) => hint).join()).toMatch(/owner allow it.*owner allow it/)
  const { keys } = await migrator.status()
  const newest = (of: string) => keys.filter(({ tenant, purpose }) => tenant === of && purpose === 'wrap').length
  expect(['a', 'b', 'c', 'd'].map(newest)).toEqual([2, 1, 2, 1])
  for (const tenant of ['b', 'd']) kms.restore(`cmk-${tenant}`)
  clock.advance(60_000)
  expect(await migrator.rotateKek({ due: true })).toMatchObject({
    rotated: [{ tenant: 'b' }, { tenant: 'd' }],
    failures: [],
  })
})

it('keeps the reports of tenants that it has rewrapped beside that of one whose rows remain', async () => {
  const { migrator, fill, source } = clinic({ policy: { maxLiveVersions: 1 } })
  for (const tenant of ['a', 'b']) await fill(tenant, [tenant.charCodeAt(0)])
  const [row] = source.rows.get('patients')?.values() ?? []
  const ssn = row?.cells['ssn'] as Uint8Array
  ssn[60] = (ssn[60] ?? 0) ^ 1 // of the wrapped DEK
  for (const tenant of ['a', 'b']) await migrator.rotateKek({ tenant })
  const error: unknown = await migrator.rotateKek({ due: true }).catch((e: unknown) => e)
  expect(error).toMatchObject({ code: 'ERR_ROWS_REMAIN', details: { tenant: 'a' } })
  expect(rotationOf(error)).toMatchObject({
    rewraps: [
      { tenant: 'a', remaining: 1 },
      { tenant: 'b', remaining: 0 },
    ],
    failures: [{ tenant: 'a', code: 'ERR_ROWS_REMAIN' }],
  })
})

it('rewraps the rows of other tenants although the keys of two tenants’ data subjects are denied', async () => {
  const { migrator, fill, fillNotes, kms, clock } = eachWithItsCmk()
  for (const tenant of ['a', 'b', 'c']) {
    await fill(tenant, [tenant.charCodeAt(0)])
    await fillNotes(tenant, [tenant.charCodeAt(0)])
    await migrator.rotateKek({ tenant })
  }
  for (const tenant of ['a', 'c']) kms.deny(`cmk-${tenant}`)
  clock.advance(3_600_000)
  const error: unknown = await migrator.rewrap().catch((e: unknown) => e)
  expect(error).toMatchObject({ code: 'ERR_ROWS_REMAIN' })
  const report = reportOf(error)
  expect(report?.models[0]).toMatchObject({ model: 'patients', updated: 1, denied: 2 })
  expect(report?.failures).toMatchObject([
    { tenant: 'a', code: 'ERR_KMS_ACCESS_DENIED' },
    { tenant: 'c', code: 'ERR_KMS_ACCESS_DENIED' },
  ])
  expect(report?.failures.map(({ hint }) => hint).join()).toMatch(/owner allow it.*owner allow it/)
  expect(report?.notes.join()).toMatch(/1 keys of data subjects of b were wrapped/)
})

it('has not succeeded while the keys of data subjects change again and again under it', async () => {
  const memory = memoryKeyStore()
  let busy = true
  const keyStore = Object.assign(Object.create(memory) as typeof memory, {
    update: async (record: KeyStoreRecord) =>
      busy && record.kind === 'kek' && record.parent !== undefined ? ('changed' as const) : memory.update(record),
  })
  const { migrator, fillNotes } = clinic({ keyStore })
  await fillNotes('a', [1])
  await migrator.rotateKek({ tenant: 'a' })
  const error: unknown = await migrator.rewrap().catch((e: unknown) => e)
  expect(error).toMatchObject({ code: 'ERR_ROWS_REMAIN' })
  expect(reportOf(error)?.failures).toEqual([{ tenant: 'a', code: 'ERR_KEY_STORE_UNAVAILABLE', hint: 'run it again' }])
  busy = false
  expect(await migrator.rewrap()).toMatchObject({ failures: [], notes: [expect.stringMatching(/^1 keys/) as string] })
})

it('has not succeeded where every row is done, but the keys of a tenant’s data subjects are denied', async () => {
  const { migrator, fill, fillNotes, kms, clock, source } = eachWithItsCmk()
  for (const tenant of ['a', 'b']) {
    await fill(tenant, [tenant.charCodeAt(0)])
    await fillNotes(tenant, [tenant.charCodeAt(0)])
    await migrator.rotateKek({ tenant })
  }
  for (const rows of source.rows.values())
    for (const [key, { columns }] of rows) if (columns['clinic'] === 'a') rows.delete(key)
  kms.deny('cmk-a')
  clock.advance(3_600_000)
  const error: unknown = await migrator.rewrap().catch((e: unknown) => e)
  expect(error).toMatchObject({ code: 'ERR_ROWS_REMAIN', details: { reason: '0 rows, keys of 1 tenant' } })
  expect(error).toMatchObject({
    details: {
      hint: expect.stringMatching(/the first is of tenant a: ERR_KMS_ACCESS_DENIED; have its owner/) as string,
    },
  })
  expect(reportOf(error)).toMatchObject({ remaining: 0, models: [{ updated: 1 }, {}], failures: [{ tenant: 'a' }] })
  kms.restore('cmk-a')
  clock.advance(60_000)
  expect(await migrator.rewrap()).toMatchObject({ remaining: 0, failures: [] })
})
