import { expect, it } from 'vitest'
import { statusHtml } from '../src/report/status-html.ts'
import { statusText } from '../src/report/status-text.ts'
import { clinic, NOTES, PATIENTS, range } from './support/clinic.ts'

const DAY = 86_400_000

async function prepared() {
  const app = clinic({ policy: { maxAgeDays: 90 } })
  await app.fill('a', range(0, 6))
  await app.fillNotes('a', [1, 2])
  app.clock.advance(10 * DAY)
  await app.migrator.rotateKek({ tenant: 'a' })
  await app.fill('a', range(6, 10))
  await app.fill('b<script>', [100])
  return app
}

it('tells rows per key version, values per field, tokens per epoch and the crypto-period left', async () => {
  const { migrator, source } = await prepared()
  const [row] = source.rows.get('patients')?.values() ?? []
  if (row !== undefined) row.cells['ssn'] = 'plain'
  const status = await migrator.status({ tenant: 'a' })
  expect(status.keys.filter(({ purpose }) => purpose === 'wrap')).toMatchObject([
    {
      version: 1,
      state: 'decrypt-only',
      ageDays: 10,
      rows: 6,
      rowsExact: true,
      wraps: [{ uri: 'cmk-1', keyVersion: '1' }],
    },
    { version: 2, state: 'active', ageDays: 0, daysLeft: 90, rows: 4 },
  ])
  expect(status.subjects).toEqual({ keys: 2, keyspaces: 2, oldestAgeDays: 10 })
  expect(status.models[0]).toMatchObject({
    model: 'patients',
    rows: 10,
    sampled: 10,
    fields: [
      { field: 'email', values: 10, nulls: 0, plaintext: 0, unreadable: 0 },
      { field: 'ssn', values: 9, plaintext: 1 },
      { field: 'note', values: 6, nulls: 4 },
    ],
    indexes: [{ index: 'email', epochs: { 1: 10 } }],
  })
  expect(status.rewrap).toEqual({ newest: 6, older: 6, exact: true })
})

it('says what was sampled, and counts rows per key all the same', async () => {
  const { migrator } = await prepared()
  const status = await migrator.status({ sampleRows: 3 })
  expect(status.notes.join()).toMatch(/first 3 rows/)
  expect(status.keys.filter(({ purpose }) => purpose === 'wrap').map(({ rows }) => rows)).toEqual([6, 4, 1])
  expect(status.models[0]).toMatchObject({ rows: 11, sampled: 3 })
})

it('counts what no key opens any more as unreadable', async () => {
  const { migrator } = await prepared()
  await migrator.apply(await migrator.plan('shred', { tenant: 'a', keyspace: 'subject:patient:1' }), {
    confirm: 'subject:patient:1',
  })
  const status = await migrator.status()
  expect(status.models[1]?.fields).toMatchObject([{ field: 'text', values: 2, unreadable: 1 }])
})

it('prints tables, and HTML that holds no markup of an id and loads nothing', async () => {
  const { migrator } = await prepared()
  const status = await migrator.status()
  const text = statusText(status)
  expect(text).toMatch(/decrypt-only/)
  expect(text).toMatch(/patients {2,}11/)
  const html = statusHtml(status)
  expect(html).not.toContain('b<script>')
  expect(html).toContain('b&lt;script&gt;')
  expect(html).toMatch(/<svg[^>]*aria-label="rows under each key"/)
  expect(html).not.toMatch(/(?:src|href)=/)
  expect(statusHtml({ ...status, keys: [], rewrap: { newest: 0, older: 0, exact: true } })).toContain('No keys')
})

it('finds plaintext, sick CMKs with their blast radius, old keys, unknown indexes and a wrong clock', async () => {
  const app = await prepared()
  const { migrator, source, kms, clock, keyStore } = app
  expect(await migrator.doctor()).toEqual([])
  const [row] = source.rows.get('patients')?.values() ?? []
  if (row !== undefined) row.cells['ssn'] = 'plain'
  kms.scheduleDeletion('cmk-1', new Date('2030-01-01T00:00:00Z'))
  clock.advance(100 * DAY)
  const [one] = keyStore.rows
  if (one !== undefined) {
    const record = JSON.parse(one[1]) as { createdAt: number }
    keyStore.rows.set(one[0], JSON.stringify({ ...record, createdAt: clock.now() + DAY }))
  }
  const findings = await migrator.doctor({ tenant: 'a' })
  const problems = findings.map(({ where, problem }) => `${where}: ${problem}`).join('\n')
  expect(problems).toMatch(/patients: 1 rows hold plaintext/)
  expect(problems).toMatch(/cmk-1: pending-deletion.*2030-01-01.*5 keys and 12 rows/)
  expect(problems).toMatch(/100 days old, the policy says 90/)
  expect(problems).toMatch(/clock: /)
})

it('notices changed and unknown ids by the lock', async () => {
  const { migrator } = clinic()
  const lock = migrator.lock()
  expect(lock).toMatchObject({
    format: 1,
    app: 'clinic',
    models: {
      notes: { keyspace: 'per patient', indexes: { text: 128 } },
      patients: { fields: { email: 'string', note: 'string', ssn: 'string' }, rowKey: { id: 'integer' } },
    },
  })
  expect(migrator.checkLock(JSON.parse(JSON.stringify(lock)))).toEqual([])
  const [first, second = PATIENTS.fields[1]] = PATIENTS.fields
  const renamed = {
    ...PATIENTS,
    fields: [first, { ...second, path: 'social' }, { path: 'note', type: 'date', options: {} }],
  }
  const changed = clinic({}, [renamed as typeof PATIENTS]).migrator.checkLock(lock)
  expect(changed.map(({ where, problem }) => `${where} ${problem}`)).toEqual([
    'notes the model is gone, renamed, or its plugin is missing',
    'patients.note was string, is date',
    'patients.ssn gone from fields',
    'patients.social not in the lock file',
  ])
  const open = { path: 'email', type: 'string', options: { blindIndex: { unique: { where: { closed: null } } } } }
  const partly = { ...PATIENTS, fields: [open, ...PATIENTS.fields.slice(1)] }
  const narrowed = clinic({}, [partly as typeof PATIENTS, NOTES]).migrator.checkLock(lock)
  expect(narrowed).toMatchObject([{ where: 'patients.email', problem: 'was 128, is 128 unique where closed is null' }])
  expect(clinic({ app: 'other' }, [PATIENTS, NOTES]).migrator.checkLock(lock)).toMatchObject([{ where: 'app' }])
  expect(() => migrator.checkLock({})).toThrow(/no lock file/)
})
