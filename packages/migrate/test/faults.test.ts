import { isFieldsealError, type KekId, type ModelDeclaration } from '@fieldseal/core/adapter'
import { expect, it } from 'vitest'
import type { Plan } from '../src/plan/plan.ts'
import type { Report } from '../src/report/report.ts'
import { NOTES, PATIENTS, range } from './support/clinic.ts'
import { killedEverywhere, type Process, type Scenario, type World } from './support/kill.ts'

const IDS = range(0, 7)
const SMALL = { batchSize: 3, concurrency: 2 }

async function fill({ as, source }: Process): Promise<void> {
  await as('a', async () => {
    for (const id of IDS) await source.write('patients', { clinic: 'a', id }, { email: `p${id}@x`, ssn: `s${id}` })
    for (const id of [1, 2]) await source.write('notes', { clinic: 'a', id, patient: String(id) }, { text: `t${id}` })
  })
}

/** Every value is readable by another process, at every moment. */
const readable = async ({ as, source }: Process) => {
  await as('a', async () => {
    for (const id of IDS)
      expect(await source.read('patients', { clinic: 'a', id })).toEqual({ email: `p${id}@x`, ssn: `s${id}` })
    for (const id of [1, 2])
      expect(await source.read('notes', { clinic: 'a', id, patient: String(id) })).toEqual({ text: `t${id}` })
  })
}

const withNext = ({ fields, ...model }: ModelDeclaration): ModelDeclaration => ({
  ...model,
  fields: fields.map((field) => {
    const { blindIndex } = field.options
    const next = { normalize: 'lower', bits: 160 } as const
    return typeof blindIndex === 'object' ? { ...field, options: { blindIndex: { ...blindIndex, next } } } : field
  }),
})

/** Every row is found by its value and by no other, at every moment. */
async function found({ as, source, host }: Process): Promise<void> {
  const index = source.models[0]?.indexes[0] ?? expect.unreachable()
  const asked = IDS.map((id) => ({ index, values: [`p${id}@x`] }))
  const tokens = await as('a', () => host.cipher.tokens(asked, host.capture()))
  const rows = [...(source.rows.get('patients')?.values() ?? [])]
  for (const [id, [token]] of tokens.entries()) {
    const hits = rows.filter((row) => row.tokens['email']?.some((one) => token && Buffer.compare(one, token) === 0))
    expect(hits.map(({ columns }) => columns['id'])).toEqual([id])
  }
}

/** The models on their way from plaintext. */
const inState = (state: 'plaintext' | 'migrating'): readonly ModelDeclaration[] => [
  { ...PATIENTS, fields: PATIENTS.fields.map((field) => ({ ...field, options: { ...field.options, state } })) },
  NOTES,
]

/** What an old build has stored: plaintext, without tokens. */
async function fillPlaintext(process: Process): Promise<void> {
  await fill(process)
  for (const { columns, cells, tokens } of process.source.rows.get('patients')?.values() ?? []) {
    const id = Number(columns['id'])
    Object.assign(cells, { email: `p${id}@x`, ssn: `s${id}` })
    for (const index of Object.keys(tokens)) Reflect.deleteProperty(tokens, index)
  }
}

/** Reads every row, and writes one as the deployed build does. */
async function readAndWrite(process: Process): Promise<void> {
  await readable(process)
  await process.as('a', () => process.source.write('patients', { clinic: 'a', id: 5 }, { email: 'p5@x', ssn: 's5' }))
}

const plaintextIn = ({ source }: Process) =>
  [...(source.rows.get('patients')?.values() ?? [])].flatMap(({ cells }) =>
    Object.values(cells).filter((cell) => typeof cell === 'string' && !cell.startsWith('fs.')),
  )

const kekIds = ({ keyStore }: World) =>
  [...keyStore.rows.values()]
    .map((text) => JSON.parse(text) as { kind: string; purpose: string; id: KekId; keyspace: string; version: number })
    .filter(({ kind, purpose }) => kind === 'kek' && purpose === 'wrap')

async function rowsUnder({ source }: Process, kekId: KekId): Promise<number> {
  let rows = 0
  for (const map of source.models) rows += (await source.count(map, { kekId })).rows
  return rows
}

const totals = (report: Report) => report.models.map(({ rows, updated, unchanged }) => rows - updated - unchanged)

const SCENARIOS: Record<string, Scenario> = {
  'backfill of tokens': {
    setUp: fillPlaintext,
    deployed: inState('plaintext'),
    run: ({ migrator }) => migrator.backfill(SMALL),
    alongside: readAndWrite,
    async check(process, _world, result) {
      expect((result as Report).remaining).toBe(0)
      await found(process)
      expect(plaintextIn(process)).toHaveLength(2 * IDS.length)
    },
  },
  backfill: {
    setUp: fillPlaintext,
    deployed: inState('migrating'),
    run: ({ migrator }) => migrator.backfill(SMALL),
    alongside: readAndWrite,
    async check(process, _world, result) {
      const report = result as Report
      expect(report.remaining).toBe(0)
      expect(report.models[0]?.rows).toBe(IDS.length)
      expect(plaintextIn(process)).toEqual([])
      await found(process)
      expect((await process.migrator.verify()).remaining).toBe(0)
    },
  },
  decrypt: {
    setUp: fill,
    deployed: inState('plaintext'),
    async run({ migrator }) {
      const report = await migrator.decrypt({ ...SMALL, model: 'patients', field: 'email' })
      return [report, await migrator.decrypt({ ...SMALL, model: 'patients', field: 'ssn' })]
    },
    alongside: readAndWrite,
    async check(process, _world, result) {
      expect((result as Report[]).map(({ remaining }) => remaining)).toEqual([0, 0])
      expect(plaintextIn(process)).toHaveLength(2 * IDS.length)
      await found(process)
    },
  },
  rewrap: {
    async setUp(process) {
      await fill(process)
      await process.migrator.rotateKek({ tenant: 'a' })
      await process.migrator.rotateKek({ tenant: 'a', keyspace: 'subject:patient:1' })
    },
    run: ({ migrator }) => migrator.rewrap({ ...SMALL, tenant: 'a' }),
    alongside: readable,
    async check(process, world, result) {
      const report = result as Report
      expect(report.remaining).toBe(0)
      expect(totals(report)).toEqual([0, 0])
      expect(report.models[0]?.rows).toBe(IDS.length)
      const [old] = kekIds(world).filter(({ keyspace, version }) => keyspace === 'default' && version === 1)
      expect(await rowsUnder(process, old?.id as KekId)).toBe(0)
    },
  },
  verify: {
    setUp: fill,
    run: ({ migrator }) => migrator.verify(SMALL),
    alongside: readable,
    async check(_process, _world, result) {
      const { models } = result as Report
      expect(models[0]).toMatchObject({ rows: 7, unchanged: 7, counts: { values: 14, tokens: 7 } })
    },
  },
  'rotate kek': {
    setUp: fill,
    run: ({ migrator }) => migrator.rotateKek({ tenant: 'a' }),
    alongside: readable,
    async check(process, world) {
      const keks = kekIds(world).filter(({ keyspace }) => keyspace === 'default')
      expect(keks.length).toBeGreaterThan(1)
      await process.as('a', () =>
        process.source.write('patients', { clinic: 'a', id: 0 }, { ssn: 's0', email: 'p0@x' }),
      )
      const newest = keks.toSorted((a, b) => b.version - a.version)[0]
      expect(await rowsUnder(process, newest?.id as KekId)).toBe(1)
      await readable(process)
    },
  },
  'rotate cmk': {
    async setUp(process, { kms }) {
      await fill(process)
      kms.rotate('cmk-1')
    },
    run: ({ migrator }) => migrator.rotateCmk({ tenant: 'a' }),
    alongside: readable,
    async check(_process, { keyStore }) {
      const wraps = [...keyStore.rows.values()].flatMap(
        (text) => (JSON.parse(text) as { wraps?: { provider: string; keyVersion?: string }[] }).wraps ?? [],
      )
      const versions = wraps.filter(({ provider }) => provider === 'fake-kms').map(({ keyVersion }) => keyVersion)
      expect(versions.length).toBeGreaterThan(1)
      expect(new Set(versions)).toEqual(new Set(['2']))
    },
  },
  're-encrypt': {
    async setUp(process) {
      await fill(process)
      await process.migrator.rotateKek({ tenant: 'a' })
    },
    async run({ migrator }, world) {
      const [leaked] = kekIds(world).filter(({ keyspace, version }) => keyspace === 'default' && version === 1)
      return migrator.reEncrypt({ ...SMALL, kek: leaked?.id ?? '', drain: false })
    },
    alongside: readable,
    async check(process, world, result) {
      expect((result as Report).remaining).toBe(0)
      const compromised = [...world.keyStore.rows.values()].flatMap((text) => {
        const record = JSON.parse(text) as { id: KekId; compromised?: boolean }
        return record.compromised === true ? [record.id] : []
      })
      expect(compromised.length).toBeGreaterThanOrEqual(4) // two of the tenant, one of each patient
      for (const id of compromised) expect(await rowsUnder(process, id)).toBe(0)
    },
  },
  rebind: {
    async setUp(process, { database }) {
      await fill(process)
      const rows = database.rows.get('patients')
      for (const [key, row] of Array.from(rows ?? [])) {
        rows?.delete(key)
        const id = Number(row.columns['id']) + 100
        rows?.set(JSON.stringify([id]), { ...row, columns: { ...row.columns, id } })
      }
    },
    run: ({ migrator }) =>
      migrator.rebind({ ...SMALL, model: 'patients', formerKey: ({ id }) => ({ id: Number(id) - 100 }) }),
    async check({ as, source }) {
      for (const id of IDS)
        expect(await as('a', () => source.read('patients', { clinic: 'a', id: id + 100 }))).toMatchObject({
          ssn: `s${id}`,
        })
    },
  },
  reindex: {
    setUp: fill,
    deployed: [withNext(PATIENTS), NOTES],
    run: ({ migrator }, { clock }) =>
      migrator.reindex({
        ...SMALL,
        tenant: 'a',
        newKey: true,
        onWait: ({ remainingMs }) => clock.advance(remainingMs + 1),
      }),
    async alongside(process) {
      await readable(process)
      await found(process)
      const { as, source } = process
      await as('a', () => source.write('patients', { clinic: 'a', id: 5 }, { email: 'p5@x', ssn: 's5' }))
    },
    async check(process, { keyStore, database }, result) {
      expect(result).toMatchObject({ verb: 'reindex', remaining: 0 })
      await found(process)
      for (const { tokens } of database.rows.get('patients')?.values() ?? []) expect(tokens['email']).toHaveLength(1)
      for (const { tokens } of database.rows.get('notes')?.values() ?? []) expect(tokens['text']).toHaveLength(1)
      const records = [...keyStore.rows.values()].map((text) => JSON.parse(text) as Record<string, unknown>)
      const indexes = records.filter(({ kind }) => kind === 'index')
      expect(indexes.filter(({ role }) => role === 'current')).toHaveLength(2)
      expect(indexes.filter(({ role }) => role === 'next')).toHaveLength(0)
      const keks = records.filter(({ purpose }) => purpose === 'index').map(({ state }) => state)
      expect(keks.filter((state) => state === 'active')).toHaveLength(1)
      expect(keks.filter((state) => state !== 'active').every((state) => state === 'retired')).toBe(true)
      expect(await process.migrator.verify()).toMatchObject({ remaining: 0 })
    },
  },
  move: {
    async setUp(process, { configured }) {
      await fill(process)
      Object.assign(configured, { cmks: ['cmk-2'], formerCmks: ['cmk-1'] })
      await planned(process, 'move', { tenant: 'a' })
    },
    run: ({ migrator }) => migrator.apply(plan),
    alongside: readable,
    async check(_process, { keyStore }) {
      expect([...keyStore.rows.values()].join()).not.toContain('"cmk-1"')
    },
  },
  retire: {
    async setUp(process, world) {
      await fill(process)
      await process.migrator.rotateKek({ tenant: 'a', keyspace: 'subject:patient:1' })
      await process.migrator.rewrap({ tenant: 'a' })
      const [kek] = kekIds(world).filter(({ keyspace, version }) => keyspace.endsWith(':1') && version === 1)
      await planned(process, 'retire', { kek: kek?.id ?? '', longestTransactionMs: 0 })
      world.clock.advance(3_600_000)
    },
    run: ({ migrator }) => migrator.apply(plan),
    alongside: readable,
    async check(_process, { keyStore }, result) {
      expect(result).toMatchObject({ state: 'retired' })
      expect([...keyStore.rows.values()].filter((text) => text.includes('"retired"'))).toHaveLength(1)
    },
  },
  shred: {
    async setUp(process) {
      await fill(process)
      await process.migrator.rotateKek({ tenant: 'a', keyspace: 'subject:patient:1' })
      await planned(process, 'shred', { tenant: 'a', keyspace: 'subject:patient:1' })
    },
    async run({ migrator }, { clock }) {
      const confirm = 'subject:patient:1'
      await migrator.apply(plan, { confirm }).catch((error: unknown) => {
        if (!isFieldsealError(error) || error.code !== 'ERR_PLAN_REFUSED') throw error // pending already
      })
      clock.advance(8 * 86_400_000)
      return migrator.apply(plan, { confirm })
    },
    async alongside({ as, source }) {
      for (const id of IDS)
        expect(await as('a', () => source.read('patients', { clinic: 'a', id }))).toMatchObject({ ssn: `s${id}` })
      expect(await as('a', () => source.read('notes', { id: 2 }))).toEqual({ text: 't2' })
    },
    async check({ as, source }, { keyStore, database }, result) {
      expect(result).toMatchObject({ report: { state: 'destroyed', tokensCleared: 1 } })
      const write = as('a', () => source.write('notes', { clinic: 'a', id: 5, patient: '1' }, { text: 'x' }))
      await expect(write).rejects.toMatchObject({ kind: 'erased' })
      expect([...keyStore.rows.values()].filter((text) => text.includes('"destroyed"'))).toHaveLength(2)
      expect(database.rows.get('notes')?.get('[1]')?.tokens).toEqual({ text: [] })
    },
  },
  'shred, cancelled': {
    async setUp(process) {
      await fill(process)
      await planned(process, 'shred', { tenant: 'a' })
      await process.migrator.apply(plan, { confirm: 'a' })
    },
    run: ({ migrator }) => migrator.apply(plan, { cancel: true }),
    check: (process) => readable(process),
  },
}

let plan: Plan
const planned = async ({ migrator }: Process, verb: Plan['verb'], options: object) => {
  plan = await migrator.plan(verb as 'shred', options) // each verb with its own options
}

it.each(Object.entries(SCENARIOS))(
  '%s converges wherever it is killed, and no reader notices',
  async (_name, scenario) => {
    expect(await killedEverywhere(scenario)).toBeGreaterThan(0)
  },
  60_000,
)
