import type { BlindIndexOptions } from '@fieldseal/core'
import type { ModelDeclaration } from '@fieldseal/core/adapter'
import { expect, it } from 'vitest'
import { reportOf } from '../src/report/report.ts'
import type { ReindexOptions } from '../src/reindex/run.ts'
import { PATIENTS } from './support/clinic.ts'
import { createWorld, type Process, startProcess, type World } from './support/kill.ts'

const model = (blindIndex: BlindIndexOptions): ModelDeclaration => ({
  ...PATIENTS,
  fields: [
    { path: 'email', type: 'string', options: { blindIndex } },
    { path: 'ssn', type: 'string', options: {} },
  ],
})
const BEFORE = model({ normalize: 'trim', unique: true })
const MOVING = model({ normalize: 'trim', unique: true, next: { normalize: 'lower' } })
const AFTER = model({ normalize: 'lower', unique: true })

const deploy = (world: World, declaration: ModelDeclaration): Process => startProcess(world, undefined, [declaration])

const write = ({ as, source }: Process, tenant: string, id: number, email: string | null) =>
  as(tenant, () => source.write('patients', { clinic: tenant, id }, { email, ssn: `s${id}` }))

/** Ids of the rows that a process finds by an e-mail address, as an adapter does. */
async function find({ fieldseal, source, as, host }: Process, tenant: string, email: string): Promise<unknown[]> {
  const index = source.models[0]?.indexes[0] ?? expect.unreachable()
  const asked = [{ index, values: [email] }]
  const [[token] = []] = await as(tenant, () => host.cipher.tokens(asked, host.capture()))
  expect(fieldseal).toBeDefined()
  const rows = [...(source.rows.get('patients')?.values() ?? [])]
  const found = rows.filter(({ tokens }) => tokens['email']?.some((one) => token && Buffer.compare(one, token) === 0))
  return found.map(({ columns }) => columns['id']).toSorted((a, b) => Number(a) - Number(b))
}

const epochsOf = ({ database }: World) =>
  [...(database.rows.get('patients')?.values() ?? [])].map(({ tokens }) => (tokens['email'] ?? []).map(([e]) => e))
const roles = ({ keyStore }: World) =>
  [...keyStore.rows.values()]
    .map((text) => JSON.parse(text) as { kind: string; tenant: string; epoch: number; role: string })
    .filter(({ kind }) => kind === 'index')
    .map(({ tenant, epoch, role }) => `${tenant} ${epoch} ${role}`)
    .sort()

/** Time passes while the verb waits. */
const waiting = ({ clock }: World, options: ReindexOptions = {}): ReindexOptions => ({
  batchSize: 2,
  onWait: ({ remainingMs }) => clock.advance(remainingMs + 1),
  ...options,
})

async function filled(
  emails: readonly (string | null)[] = ['Ada', 'Bob', 'Eve', null],
  declaration = BEFORE,
): Promise<World> {
  const world = createWorld()
  const before = deploy(world, declaration)
  for (const [id, email] of emails.entries()) await write(before, 'a', id, email)
  await write(before, 'b', 100, 'Ada')
  return world
}

it('moves every index of every tenant to its next shape, and leaves no old token', async () => {
  const world = await filled()
  const process = deploy(world, MOVING)
  expect(await find(process, 'a', 'ada')).toEqual([])
  const waits: string[] = []
  const report = await process.migrator.reindex(
    waiting(world, { onWait: ({ why, remainingMs }) => waits.push(why) && world.clock.advance(remainingMs + 1) }),
  )
  expect(report).toMatchObject({ verb: 'reindex', remaining: 0, dryRun: false })
  expect(report.models[0]).toMatchObject({ model: 'patients', rows: 5, counts: { filled: 4, cleared: 4 }, failed: 0 })
  expect(waits).toHaveLength(3)
  expect(epochsOf(world)).toEqual([[2], [2], [2], [], [2]])
  expect(roles(world)).toEqual(['a 1 old', 'a 2 current', 'b 1 old', 'b 2 current'])
  for (const one of [process, deploy(world, AFTER)]) {
    expect(await find(one, 'a', 'ada')).toEqual([0])
    expect(await find(one, 'b', ' ADA ')).toEqual([100])
    await expect(write(one, 'a', 7, 'ADA')).rejects.toMatchObject({ code: 'ERR_INDEX_COLLISION' })
    await write(one, 'b', 7, `new ${one === process}`)
  }
  expect(await process.migrator.verify()).toMatchObject({ remaining: 0 })
})

it('changes nothing where everything is as it should be, and does not wait', async () => {
  const world = await filled()
  const process = deploy(world, MOVING)
  await process.migrator.reindex(waiting(world))
  const report = await process.migrator.reindex({ onWait: () => expect.unreachable() })
  expect(report.models[0]).toMatchObject({ rows: 5, updated: 0, unchanged: 5 })
  expect((await deploy(world, AFTER).migrator.reindex({ onWait: () => expect.unreachable() })).remaining).toBe(0)
})

it('gives a tenant a new key for its tokens, and takes the old one out of use', async () => {
  const world = await filled()
  const process = deploy(world, BEFORE)
  const before = epochsOf(world)
  await process.migrator.reindex(waiting(world, { newKey: true, tenant: 'a' }))
  expect(epochsOf(world)).toEqual([[2], [2], [2], [], [1]])
  expect(before).toEqual([[1], [1], [1], [], [1]])
  const keks = [...world.keyStore.rows.values()]
    .map((text) => JSON.parse(text) as { purpose?: string; tenant: string; version: number; state: string })
    .filter(({ purpose, tenant }) => purpose === 'index' && tenant === 'a')
  expect(keks.map(({ version, state }) => `${version} ${state}`).sort()).toEqual(['1 retired', '2 active'])
  expect(await find(deploy(world, BEFORE), 'a', 'Ada')).toEqual([0])
  await write(deploy(world, BEFORE), 'a', 9, 'new')
})

it('lists by key what the next shape would hold equal or cannot hold, before anything begins', async () => {
  const world = await filled(['Ada', 'ada', 'Bob', 'x\u0378', null, 'ADA'], model({ unique: true }))
  const process = deploy(world, model({ unique: true, next: { normalize: 'lower' } }))
  for (const dryRun of [true, false]) {
    const outcome = await process.migrator.reindex(waiting(world, { dryRun })).catch((error: unknown) => error)
    if (!dryRun) expect(outcome).toMatchObject({ code: 'ERR_ROWS_REMAIN', kind: 'refused' })
    const report = dryRun ? outcome : reportOf(outcome)
    expect(report).toMatchObject({ verb: 'reindex', remaining: 4, dryRun })
    expect((report as { models: { failures: { key: string }[] }[] }).models[0]?.failures).toMatchObject([
      { key: '3', tenant: 'a', field: 'email', code: 'ERR_VALUE_INVALID' },
      { key: '0', code: 'ERR_INDEX_COLLISION' },
      { key: '1', code: 'ERR_INDEX_COLLISION' },
      { key: '5', code: 'ERR_INDEX_COLLISION' },
    ])
    expect(JSON.stringify(report)).not.toMatch(/ada/i)
  }
  expect(roles(world)).toEqual(['a 1 current', 'b 1 current'])
  for (const id of [1, 3, 5]) await write(process, 'a', id, `other ${id}`)
  expect(await process.migrator.reindex(waiting(world))).toMatchObject({ remaining: 0 })
})

it('compares only rows that a unique index counts', async () => {
  const unique = { where: { closed: null } }
  const world = createWorld()
  const before = deploy(world, model({ unique }))
  const put = ({ as, source }: Process, id: number, email: string, closed: string | null) =>
    as('a', () => source.write('patients', { clinic: 'a', id, closed }, { email, ssn: 's' }))
  await put(before, 0, 'ada', null)
  await put(before, 1, 'ada', '2020')
  await put(before, 2, 'ADA', '2021')
  await expect(put(before, 3, 'ada', null)).rejects.toMatchObject({ code: 'ERR_INDEX_COLLISION' })
  const process = deploy(world, model({ unique, next: { normalize: 'lower' } }))
  await put(process, 3, 'Ada', null)
  const outcome = await process.migrator.reindex(waiting(world)).catch((error: unknown) => error)
  expect(reportOf(outcome)?.models[0]?.failures.map(({ key }) => key)).toEqual(['0', '3'])
  await put(process, 3, 'Ada', '2022')
  expect(await process.migrator.reindex(waiting(world))).toMatchObject({ remaining: 0 })
  expect(await find(process, 'a', 'ada')).toEqual([0, 1, 2, 3])
})

it('gives an index over several fields a new key, named by its id', async () => {
  const options = { tenantBy: 'clinic', compoundIndexes: { person: { of: ['email', 'ssn'], unique: true } } }
  const declaration: ModelDeclaration = { ...BEFORE, options }
  const world = createWorld()
  const process = deploy(world, declaration)
  for (const [id, email] of ['Ada', 'Bob', null].entries()) await write(process, 'a', id, email)
  const epochs = (index: string) =>
    [...(world.database.rows.get('patients')?.values() ?? [])].map(({ tokens }) =>
      (tokens[index] ?? []).map(([e]) => e),
    )
  const twice = process.as('a', () =>
    process.source.write('patients', { clinic: 'a', id: 9 }, { email: 'Bob', ssn: 's1' }),
  )
  await expect(twice).rejects.toMatchObject({ code: 'ERR_INDEX_COLLISION' })
  await process.migrator.reindex(waiting(world, { newKey: true, field: 'person' }))
  expect([epochs('person'), epochs('email')]).toEqual([
    [[2], [2], []],
    [[1], [1], []],
  ])
  await process.migrator.reindex(waiting(world, { newKey: true, field: 'email' }))
  expect([epochs('person'), epochs('email')]).toEqual([
    [[2], [2], []],
    [[2], [2], []],
  ])
  expect(await process.migrator.verify()).toMatchObject({ remaining: 0 })
  await expect(process.migrator.backfill({ field: 'person' })).rejects.toMatchObject({ code: 'ERR_ARGUMENT_INVALID' })
  await expect(process.migrator.reindex({ field: 'ssn' })).rejects.toMatchObject({ code: 'ERR_ARGUMENT_INVALID' })
  expect(process.migrator.lock().models['patients']?.indexes).toEqual({ email: 128, person: '128 of email, ssn' })
})

it('makes the tokens anew that a build without the index has left beside other values', async () => {
  const options = { tenantBy: 'clinic', compoundIndexes: { person: { of: ['email', 'ssn'] } } }
  const world = createWorld()
  const [older, newer] = [deploy(world, BEFORE), deploy(world, { ...BEFORE, options })]
  for (const [id, email] of ['Ada', 'Bob', 'Eve', null].entries()) await write(newer, 'a', id, email)
  await write(older, 'a', 0, 'Zoe') // while the deploy rolls
  await write(older, 'a', 1, null)
  await expect(newer.migrator.verify()).rejects.toMatchObject({ code: 'ERR_ROWS_REMAIN' })
  const rows = world.database.rows.get('patients')
  const broken = rows?.get('[2]') ?? expect.unreachable()
  broken.cells['ssn'] = rows?.get('[3]')?.cells['ssn'] ?? null
  const report = await newer.migrator.reindex({ field: 'person', onWait: () => expect.unreachable() })
  expect(report.models[0]).toMatchObject({ rows: 4, updated: 2, failed: 0 })
  await write(newer, 'a', 2, 'Eve')
  expect(await newer.migrator.verify()).toMatchObject({ remaining: 0 })
})

it('takes tokens away that stand beside fewer values, and none of an index that it is not about', async () => {
  const options = { tenantBy: 'clinic', compoundIndexes: { person: { of: ['email', 'ssn'] } } }
  const world = createWorld()
  const process = deploy(world, { ...BEFORE, options })
  for (const id of [0, 1]) await write(process, 'a', id, `${id}`)
  const rows = [...(world.database.rows.get('patients')?.values() ?? [])]
  delete rows[1]?.cells['ssn']
  const counts = () => rows.map(({ tokens }) => [tokens['email']?.length, tokens['person']?.length])
  expect(await process.migrator.reindex(waiting(world, { field: 'email' }))).toMatchObject({ remaining: 0 })
  expect(counts()).toEqual([[1, 1], [1, 1]]) // biome-ignore format: one line
  await expect(process.migrator.verify()).rejects.toMatchObject({ code: 'ERR_ROWS_REMAIN' })
  expect(await process.migrator.reindex(waiting(world))).toMatchObject({ models: [{ updated: 1 }] })
  expect(counts()).toEqual([[1, 1], [1, 0]]) // biome-ignore format: one line
  expect(await process.migrator.verify()).toMatchObject({ remaining: 0 })
})

it('rejects while a row cannot have its new token, and goes on when it is mended', async () => {
  const world = await filled()
  const process = deploy(world, MOVING)
  const row = world.database.rows.get('patients')?.get('[1]') ?? expect.unreachable()
  const { email: sealed = null } = row.cells
  let waits = 0
  const spoil = waiting(world, {
    onWait({ remainingMs }) {
      world.clock.advance(remainingMs + 1)
      if (++waits === 1) row.cells['email'] = world.database.rows.get('patients')?.get('[0]')?.cells['email'] ?? null
    },
  })
  const error: unknown = await process.migrator.reindex(spoil).catch((e: unknown) => e)
  expect(error).toMatchObject({ code: 'ERR_ROWS_REMAIN' })
  expect(reportOf(error)).toMatchObject({ verb: 'reindex', remaining: 1 })
  expect(reportOf(error)?.models[0]?.failures).toMatchObject([{ key: '1', code: 'ERR_DECRYPT_FAILED' }])
  expect(roles(world)).toContain('a 2 next') // look-ups ask the old tokens still
  expect(await find(process, 'a', 'Bob')).toEqual([1])
  row.cells['email'] = sealed
  expect(await process.migrator.reindex(waiting(world))).toMatchObject({ remaining: 0, resumed: true })
  expect(epochsOf(world)).toEqual([[2], [2], [2], [], [2]])
})

it('rejects rows that became equal while it was moving', async () => {
  const world = await filled()
  const process = deploy(world, MOVING)
  const behind = deploy(world, BEFORE) // a process of before, with a snapshot of before
  await find(behind, 'a', 'x')
  let waits = 0
  const run = process.migrator.reindex(
    waiting(world, {
      onWait({ remainingMs }) {
        if (++waits === 1) return void write(behind, 'a', 8, 'ADA').then(() => world.clock.advance(remainingMs + 1))
        world.clock.advance(remainingMs + 1)
      },
    }),
  )
  const error: unknown = await run.catch((e: unknown) => e)
  expect(error).toMatchObject({ code: 'ERR_ROWS_REMAIN' })
  expect(reportOf(error)?.models[0]?.failures).toMatchObject([{ key: '8', code: 'ERR_INDEX_COLLISION' }])
  await write(process, 'a', 8, 'somebody else')
  expect(await process.migrator.reindex(waiting(world))).toMatchObject({ remaining: 0 })
}, 20_000)

it('can be called off until look-ups ask the new tokens, and begun again', async () => {
  const world = await filled()
  const process = deploy(world, MOVING)
  const stop = new AbortController()
  let waits = 0
  const stopAt = (at: number) =>
    waiting(world, {
      signal: stop.signal,
      onWait({ remainingMs }) {
        if (++waits === at) stop.abort()
        world.clock.advance(remainingMs + 1)
      },
    })
  await expect(process.migrator.reindex(stopAt(1))).rejects.toMatchObject({ name: 'AbortError' })
  await write(process, 'a', 20, 'Zoe')
  expect((await process.migrator.reindex({ cancel: true })).notes).toHaveLength(2)
  expect(roles(world)).toEqual(['a 1 current', 'a 2 old', 'b 1 current', 'b 2 old'])
  expect(await process.migrator.reindex(waiting(world, { restart: true }))).toMatchObject({ remaining: 0 })
  expect(epochsOf(world)).toEqual([[4], [4], [4], [], [4], [4]])
  expect(await find(process, 'a', 'zoe')).toEqual([20])
})

it('refuses to be called off when look-ups ask the new tokens already', async () => {
  const world = await filled()
  const process = deploy(world, MOVING)
  let waits = 0
  const stop = new AbortController()
  const run = process.migrator.reindex(
    waiting(world, {
      signal: stop.signal,
      onWait({ remainingMs }) {
        if (++waits === 2) stop.abort()
        else world.clock.advance(remainingMs + 1)
      },
    }),
  )
  await expect(run).rejects.toMatchObject({ name: 'AbortError' })
  await expect(process.migrator.reindex({ cancel: true })).rejects.toMatchObject({ code: 'ERR_KEY_STATE_REFUSED' })
  expect(await find(process, 'a', 'ada')).toEqual([0])
  expect(await process.migrator.reindex(waiting(world))).toMatchObject({ remaining: 0, resumed: true })
})

it('moves an index across tenants with the rows of all of them', async () => {
  const world = createWorld()
  const shared = (next: object) => model({ unique: true, acrossTenants: true, ...next })
  const before = deploy(world, shared({}))
  await write(before, 'a', 1, 'Ada')
  await write(before, 'b', 2, 'Bob')
  const process = deploy(world, shared({ next: { normalize: 'lower' } }))
  await process.migrator.reindex(waiting(world, { newKey: true }))
  expect(epochsOf(world)).toEqual([[2], [2]])
  expect(roles(world)).toEqual(['$shared 1 old', '$shared 2 current'])
  expect(await find(process, 'b', 'ada')).toEqual([1])
})

it('is not carried on by a process that was stopped while others have ended it and begun another', async () => {
  const world = await filled()
  const { checkpoints } = world.database
  const save = checkpoints.save.bind(checkpoints)
  const [asleep, atRest] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  let saves = 0
  // Stopped in the moment between the last look at who owns the job and the change: look-ups are to ask the new tokens.
  checkpoints.save = async (job, version, state) => {
    const saved = await save(job, version, state)
    const { facts } = JSON.parse(Buffer.from(state).toString()) as { facts: { step?: number } }
    if (facts.step !== 4 || ++saves !== 2) return saved
    atRest.resolve()
    await asleep.promise
    return saved
  }
  const run = deploy(world, MOVING).migrator.reindex(waiting(world))
  await atRest.promise
  checkpoints.save = save
  await deploy(world, MOVING).migrator.reindex(waiting(world))
  const next = deploy(world, model({ normalize: 'lower', unique: true, next: { normalize: 'email' } }))
  const stop = new AbortController()
  const begun = waiting(world, { signal: stop.signal, onWait: () => stop.abort() })
  await next.migrator.reindex(begun).catch(() => undefined)
  expect(roles(world)).toContain('a 3 next')
  asleep.resolve()
  await expect(run).rejects.toMatchObject({ code: 'ERR_KEY_STATE_REFUSED' })
  expect(roles(world)).toContain('a 3 next')
}, 20_000)

it('is told of by doctor, before it begins, while it runs and where the annotation forgot it', async () => {
  const world = await filled()
  const about = async (declaration: ModelDeclaration) => {
    const findings = await deploy(world, declaration).migrator.doctor({ tenant: 'a' })
    return findings
      .filter(({ where }) => where === 'patients.email')
      .map(({ severity, problem }) => `${severity} ${problem}`)
  }
  expect(await about(BEFORE)).toEqual([])
  expect(await about(MOVING)).toEqual([expect.stringMatching(/^warning .* not yet what blindIndex.next describes/)])
  const stop = new AbortController()
  const stopped = waiting(world, { signal: stop.signal, onWait: () => stop.abort() })
  await deploy(world, MOVING)
    .migrator.reindex(stopped)
    .catch(() => undefined)
  expect(await about(MOVING)).toEqual([expect.stringMatching(/^warning a reindex of tenant a has not ended/)])
  expect(await about(BEFORE)).toEqual([expect.stringMatching(/^error .* look-ups and writes throw/)])
  await deploy(world, MOVING).migrator.reindex(waiting(world))
  expect(await about(AFTER)).toEqual([])
})

it('leaves nothing to retire by hand after a new key', async () => {
  const world = await filled()
  const { migrator } = deploy(world, BEFORE)
  const { keys } = await migrator.status({ tenant: 'a' })
  const old = keys.find(({ purpose }) => purpose === 'index')?.id ?? ''
  await migrator.reindex(waiting(world, { newKey: true, tenant: 'a' }))
  const plan = await migrator.plan('retire', { kek: old }).catch((error: unknown) => error)
  expect(plan).toMatchObject({ code: 'ERR_PLAN_REFUSED', details: { reason: 'it is retired' } })
})

it('refuses wrong options by name', async () => {
  const world = await filled()
  const { migrator } = deploy(world, MOVING)
  const refused = (field: string) => ({ code: 'ERR_ARGUMENT_INVALID', details: { field } })
  await expect(migrator.reindex({ field: 'ssn' })).rejects.toMatchObject(refused('field'))
  await expect(migrator.reindex({ shard: [1, 2] } as never)).rejects.toMatchObject(refused('shard'))
  await expect(migrator.reindex({ longestTransactionMs: -1 })).rejects.toMatchObject(refused('longestTransactionMs'))
  await expect(migrator.reindex({ tenant: 'nobody' })).rejects.toMatchObject(refused('tenant'))
})

it('leaves a tenant as it is whose customer denies its keys, moves the others, and goes on when it is back', async () => {
  const world = createWorld()
  const answer = (tenant: string) => (tenant === 'b' ? { cmks: ['cmk-b'], formerCmks: [] } : undefined)
  const perTenant = { ...world, configured: Object.assign(world.configured, { of: answer }) }
  const before = deploy(perTenant, BEFORE)
  await write(before, 'a', 1, 'Ada')
  await write(before, 'b', 2, 'Bob')
  world.kms.deny('cmk-b')
  const process = deploy(perTenant, MOVING)
  const error: unknown = await process.migrator.reindex(waiting(world)).catch((e: unknown) => e)
  expect(error).toMatchObject({ code: 'ERR_ROWS_REMAIN' })
  expect(reportOf(error)).toMatchObject({
    remaining: 0,
    failures: [{ tenant: 'b', hint: expect.stringMatching(/owner allow it/) as string }],
    notes: [expect.stringContaining('the indexes of b')],
  })
  expect(roles(world)).toEqual(['a 1 old', 'a 2 current', 'b 1 current'])
  expect(epochsOf(world)).toEqual([[2], [1]])
  world.kms.restore()
  world.clock.advance(60_000)
  expect(await process.migrator.reindex(waiting(world))).toMatchObject({ remaining: 0 })
  expect(epochsOf(world)).toEqual([[2], [2]])
  expect(await find(process, 'b', 'BOB')).toEqual([2])
}, 20_000)
