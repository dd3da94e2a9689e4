import { expect, it } from 'vitest'
import { isUnreadable } from '../../src/record/unreadable.ts'
import type { ModelDeclaration, RecordMap, Row } from '../../src/record/ports.ts'
import { inTimeSlices } from '../../src/record/time-slices.ts'
import { rotateKek } from '../../src/attach.ts'
import { type Clinic, clinic, ID, OTHER_ID, PATIENTS } from '../support/clinic.ts'

const uuid = (i: number) => `b5a1f6de-3f7c-4ac3-9a2e-${i.toString(16).padStart(12, '0')}`
const sealAll = ({ as, host }: Clinic, rows: readonly Row<unknown>[]) =>
  as('a', async () => host.cipher.seal(rows, host.capture()))
const openAll = ({ as, host }: Clinic, rows: readonly Row<unknown>[]) =>
  as('a', async () => host.cipher.open(rows, host.capture()))
const hex = (bytes: Uint8Array | null | undefined, from: number, to: number) =>
  Buffer.from(bytes ?? []).toString('hex', from, to)

it('gives results in the order of rows and cells, nulls in their places', async () => {
  const world = clinic()
  const rows = Array.from({ length: 100 }, (_, i) =>
    world.rowOf('a', { ssn: `s${i}`, born: null, email: `e${i}@x` }, uuid(i)),
  )
  const sealed = await sealAll(world, rows)
  expect(sealed.every(({ envelopes }) => envelopes[1] === null)).toBe(true)
  const stored = sealed.map(({ envelopes: [ssn, born, email] }, i) => world.rowOf('a', { email, ssn, born }, uuid(i)))
  const opened = await openAll(world, stored)
  expect(opened.map(({ values }) => values)).toEqual(rows.map((_, i) => [`e${i}@x`, `s${i}`, null]))
})

it('seals the values of a row under one DEK and those of two rows, or two writes, under different ones', async () => {
  const world = clinic()
  const [one, two] = await sealAll(world, [
    world.rowOf('a', { ssn: 'x', email: 'y' }, ID),
    world.rowOf('a', { ssn: 'x' }, OTHER_ID),
  ])
  const wrapOf = (bytes: Uint8Array | null | undefined) => hex(bytes, 18, 84)
  expect(wrapOf(one?.envelopes[0])).toBe(wrapOf(one?.envelopes[1]))
  expect(wrapOf(one?.envelopes[0])).not.toBe(wrapOf(two?.envelopes[0]))
  const [again] = await sealAll(world, [world.rowOf('a', { ssn: 'x' }, ID)])
  expect(wrapOf(again?.envelopes[0])).not.toBe(wrapOf(one?.envelopes[0]))
})

it('binds each row of a batch to its own model and row, also where it alternates between models and bindings', async () => {
  const world = clinic()
  const notes = world.host.defineModel({ ...PATIENTS, id: 'notes' })
  const as = (map: RecordMap, row: Row<unknown>): Row<unknown> => ({
    map,
    facts: row.facts,
    cells: row.cells.map((cell) => ({
      ...cell,
      field: map.fields.find(({ path }) => path === cell.field.path) ?? cell.field,
    })),
  })
  const unbound = (row: Row<unknown>): Row<unknown> => ({ ...row, facts: { ...row.facts, rowId: undefined } })
  const rows = Array.from({ length: 8 }, (_, i) => {
    const row = world.rowOf('a', { ssn: `s${i}` }, uuid(i))
    const placed = (i >> 1) & 1 ? as(notes, row) : row
    return ((i + 1) >> 1) & 1 ? unbound(placed) : placed // from row to row one of both changes
  })
  const sealed = await sealAll(world, rows)
  const stored = rows.map((row, i) => ({
    ...row,
    cells: row.cells.map((cell) => ({ ...cell, value: sealed[i]?.envelopes[0] })),
  }))
  const together = await openAll(world, stored)
  for (const [i, row] of stored.entries()) {
    expect(together[i]?.values).toEqual([`s${i}`])
    expect((await openAll(world, [row]))[0]?.values).toEqual([`s${i}`])
    const elsewhere = as((i >> 1) & 1 ? world.map : notes, row)
    await expect(openAll(world, [elsewhere])).rejects.toMatchObject({ code: 'ERR_DECRYPT_FAILED' })
  }
})

it('never repeats a nonce', async () => {
  const world = clinic()
  const rows = Array.from({ length: 500 }, (_, i) => world.rowOf('a', { ssn: 'x', email: 'y' }, uuid(i)))
  const sealed = await sealAll(world, rows)
  const nonces = sealed.flatMap(({ envelopes }) => envelopes.map((envelope) => hex(envelope, 84, 96)))
  const wraps = sealed.map(({ envelopes }) => hex(envelopes[0], 24, 36))
  expect(new Set([...nonces, ...wraps]).size).toBe(1_500)
})

it('is an empty answer for an empty batch, and asks nobody', async () => {
  const world = clinic()
  expect([await sealAll(world, []), await openAll(world, [])]).toEqual([[], []])
  expect([world.keyStore.calls.length, world.cmk.calls.length]).toEqual([0, 0])
})

it('reads rows of many tenants in a system context, each under its own key', async () => {
  const world = clinic()
  const stored: Row<unknown>[] = []
  for (const tenant of ['a', 'b', 'c'])
    stored.push(world.rowOf(tenant, { ssn: (await world.seal(tenant, { ssn: tenant })).envelopes[0] }, ID))
  world.fieldseal.runAsSystem({ reason: 'test' }, () => undefined)
  const opened = await world.fieldseal.runAsSystem({ reason: 'test' }, async () =>
    world.host.cipher.open(stored, world.host.capture()),
  )
  expect(opened.map(({ values }) => values[0])).toEqual(['a', 'b', 'c'])
  await expect(openAll(world, stored)).rejects.toMatchObject({ code: 'ERR_TENANT_MISMATCH', kind: 'misuse' })
  await expect(sealAll(world, stored)).rejects.toMatchObject({ code: 'ERR_TENANT_MISMATCH' })
})

it('refuses a batch as a whole before any I/O when one row may not be written', async () => {
  const world = clinic({}, { ...PATIENTS, options: { tenantBy: 'clinic_id', bindRow: 'require' } })
  const unbound: Row<unknown> = {
    ...world.rowOf('a', { ssn: 'x' }, ID),
    facts: { tenant: 'a', keyspace: 'default', rowId: undefined },
  }
  await expect(sealAll(world, [world.rowOf('a', { ssn: 'x' }, ID), unbound])).rejects.toMatchObject({
    code: 'ERR_WRITE_UNSUPPORTED',
    kind: 'refused',
    details: { reason: 'row-id-unknown' },
  })
  expect(world.keyStore.calls).toEqual([])
})

it('refuses unbound values where binding is required, unless they are accepted', async () => {
  const loose = clinic({}, { ...PATIENTS, options: { tenantBy: 'clinic_id', bindRow: 'never' } })
  const { envelopes } = await loose.seal('a', { ssn: 'x' })
  const strict = (accepts: ('unbound' | 'kek')[]) =>
    clinic(
      { keyStore: loose.keyStore, cmk: loose.cmk },
      { ...PATIENTS, options: { tenantBy: 'clinic_id', bindRow: 'require', accepts } },
    )
  await expect(strict([]).open('a', { ssn: envelopes[0] })).rejects.toMatchObject({
    code: 'ERR_LAYOUT_REFUSED',
    kind: 'corrupt',
  })
  expect((await strict(['unbound']).open('a', { ssn: envelopes[0] })).values).toEqual(['x'])
})

it('says when the key of a bound row was not read', async () => {
  const world = clinic()
  const { envelopes } = await world.seal('a', { ssn: 'x' })
  const row: Row<unknown> = {
    ...world.rowOf('a', { ssn: envelopes[0] }, ID),
    facts: { tenant: 'a', keyspace: 'default', rowId: undefined },
  }
  await expect(openAll(world, [row])).rejects.toMatchObject({
    code: 'ERR_QUERY_UNSUPPORTED',
    details: { reason: 'row-key-not-read' },
  })
})

it('opens an unbound value in another row of the same column and keyspace, as the threat model says', async () => {
  const world = clinic({}, { ...PATIENTS, options: { tenantBy: 'clinic_id', bindRow: 'never' } })
  const { envelopes } = await world.seal('a', { ssn: 'x' }, ID)
  expect((await world.open('a', { ssn: envelopes[0] }, OTHER_ID)).values).toEqual(['x'])
  await expect(world.open('a', { email: envelopes[0] }, ID)).rejects.toMatchObject({ code: 'ERR_DECRYPT_FAILED' })
})

it('binds values to the keys of the Maps they stand in', async () => {
  const model: ModelDeclaration = { ...PATIENTS, fields: [{ path: 'phones.$*', type: 'string', options: {} }] }
  const world = clinic({}, model)
  const field = world.map.fields[0]
  if (field === undefined) throw new Error('no field')
  const row = (...cells: [string, unknown][]): Row<unknown> => ({
    ...world.rowOf('a', {}, ID),
    cells: cells.map(([key, value]) => ({ field, mapKeys: [key], value })),
  })
  const [sealed] = await sealAll(world, [row(['home', '1'], ['work', '2'])])
  const [home, work] = sealed?.envelopes ?? []
  expect((await openAll(world, [row(['home', home], ['work', work])]))[0]?.values).toEqual(['1', '2'])
  await expect(openAll(world, [row(['home', work])])).rejects.toMatchObject({ code: 'ERR_DECRYPT_FAILED' })
})

it('refuses a database NULL where nulls are encrypted, and gives encrypted nulls back', async () => {
  const world = clinic({}, { ...PATIENTS, fields: [{ path: 'ssn', type: 'string', options: { encryptNull: true } }] })
  const [sealed] = await sealAll(world, [world.rowOf('a', { ssn: null }, ID)])
  expect((await world.open('a', { ssn: sealed?.envelopes[0] })).values).toEqual([null])
  await expect(world.open('a', { ssn: null })).rejects.toMatchObject({ code: 'ERR_PLAINTEXT_FOUND' })
})

it('marks what cannot be opened where the context says so, and opens the rest', async () => {
  const world = clinic()
  const { envelopes } = await world.seal('a', { ssn: 'x', email: 'y' })
  const [ssn, email] = envelopes
  const broken = Buffer.from(ssn ?? [])
  broken[100] = (broken[100] ?? 0) ^ 1
  const opened = await world.fieldseal.runAs({ tenant: 'a', onUnreadable: 'mark' }, async () =>
    world.host.cipher.open([world.rowOf('a', { ssn: broken, email }, ID)], world.host.capture()),
  )
  const [marked, readable] = opened[0]?.values ?? []
  expect(readable).toBe('y')
  expect(isUnreadable(marked)).toBe(true)
  expect(opened[0]?.outdated).toEqual([])
  expect(JSON.stringify({ marked })).toContain('[unreadable]')
  expect(String(marked), 'no text that an ORM would cast and store').toBe(Object.prototype.toString.call(marked))
  await expect(world.seal('a', { ssn: marked })).rejects.toMatchObject({
    code: 'ERR_UNREADABLE_VALUE',
    kind: 'refused',
  })
  await expect(world.seal('a', { email: marked })).rejects.toMatchObject({ code: 'ERR_UNREADABLE_VALUE' })
  const tokens = () =>
    world.as('a', async () =>
      world.host.cipher.tokens([{ index: world.map.indexes[0] as never, values: [marked] }], world.host.capture()),
    )
  await expect(tokens()).rejects.toMatchObject({ code: 'ERR_UNREADABLE_VALUE' })
})

it('compares a marked value by its stored bytes, so that an unchanged row stays unchanged', async () => {
  const world = clinic()
  const mark = async (bytes: Buffer) =>
    (
      await world.fieldseal.runAs({ tenant: 'a', onUnreadable: 'mark' }, async () =>
        world.host.cipher.open([world.rowOf('a', { ssn: bytes }, ID)], world.host.capture()),
      )
    )[0]?.values[0]
  const { field } = world.map.at('ssn')
  const [one, same, other] = [
    await mark(Buffer.alloc(112, 1)),
    await mark(Buffer.alloc(112, 1)),
    await mark(Buffer.alloc(112, 2)),
  ]
  expect(field?.compareKey(one)).toBe(field?.compareKey(same))
  expect(field?.compareKey(one)).not.toBe(field?.compareKey(other))
})

it('does not mark what will be readable again: unavailable keys throw', async () => {
  const world = clinic()
  const { envelopes } = await world.seal('a', { ssn: 'x' })
  world.fieldseal.purge('a')
  world.cmk.failure = 'ERR_KMS_UNKNOWN'
  const read = () =>
    world.fieldseal.runAs({ tenant: 'a', onUnreadable: 'mark' }, async () =>
      world.host.cipher.open([world.rowOf('a', { ssn: envelopes[0] }, ID)], world.host.capture()),
    )
  await expect(read()).rejects.toMatchObject({ kind: 'unavailable' })
  world.cmk.failure = 'ERR_KMS_KEY_DISABLED'
  expect(isUnreadable((await read())[0]?.values[0])).toBe(true)
})

it('reports cells under older keys, not those under the newest', async () => {
  const world = clinic()
  const { envelopes: old } = await world.seal('a', { ssn: 'x' })
  await rotateKek(world.fieldseal, { tenant: 'a' })
  const { envelopes: fresh } = await world.seal('a', { email: 'y' })
  expect((await world.open('a', { email: fresh[0], ssn: old[0] })).outdated).toEqual([1])
})

it('lets timers fire in the middle of a batch of 20,000 cells, reading and writing', async () => {
  const world = clinic({}, { ...PATIENTS, fields: PATIENTS.fields.filter(({ path }) => path !== 'email') })
  const rows = Array.from({ length: 10_000 }, (_, i) => world.rowOf('a', { ssn: `s${i}`, born: new Date(i) }, uuid(i)))
  await world.seal('a', { ssn: 'x' })
  const during = async <R>(work: Promise<R>) => {
    let turns = 0
    let done = false
    const tick = () => {
      turns++
      if (!done) setImmediate(tick)
    }
    setImmediate(tick)
    const result = await work
    done = true
    return { result, turns }
  }
  const sealing = await during(sealAll(world, rows))
  expect(sealing.turns).toBeGreaterThan(3)
  const stored = sealing.result.map(({ envelopes: [ssn, born] }, i) => world.rowOf('a', { ssn, born }, uuid(i)))
  const opening = await during(openAll(world, stored))
  expect(opening.turns).toBeGreaterThan(3)
  expect(opening.result[9_999]?.values).toEqual(['s9999', new Date(9_999)])
})

it('stops in the middle of a batch when its keys are purged and denied, and goes on when they are not', async () => {
  for (const denied of [true, false]) {
    const world = clinic({}, { ...PATIENTS, fields: PATIENTS.fields.filter(({ path }) => path !== 'email') })
    const rows = Array.from({ length: 3_000 }, (_, i) => world.rowOf('a', { ssn: `s${i}`, born: new Date(i) }, uuid(i)))
    const sealed = await sealAll(world, rows)
    const stored = sealed.map(({ envelopes: [ssn, born] }, i) => world.rowOf('a', { ssn, born }, uuid(i)))
    for (const work of [() => openAll(world, stored), () => sealAll(world, rows)]) {
      world.cmk.failure = undefined
      world.fieldseal.purge('a')
      const running = work()
      setImmediate(() => {
        world.fieldseal.purge('a')
        if (denied) world.cmk.failure = 'ERR_KMS_ACCESS_DENIED'
      })
      if (denied) await expect(running).rejects.toMatchObject({ kind: 'denied' })
      else expect(await running).toHaveLength(3_000)
    }
  }
})

it('does not compare all wraps of a row with all: thousands of cells, each written alone', async () => {
  const model: ModelDeclaration = { ...PATIENTS, fields: [{ path: 'm.$*', type: 'string', options: {} }] }
  const world = clinic({}, model)
  const field = world.map.fields[0]
  if (field === undefined) throw new Error('no field')
  const cell = (i: number, value: unknown) => ({ field, mapKeys: [String(i)], value })
  const rows = Array.from({ length: 5_000 }, (_, i) => ({ ...world.rowOf('a', {}, ID), cells: [cell(i, `v${i}`)] }))
  const sealed = await sealAll(world, rows)
  const one = { ...world.rowOf('a', {}, ID), cells: sealed.map(({ envelopes }, i) => cell(i, envelopes[0])) }
  const [opened] = await openAll(world, [one])
  expect(opened?.values[4_999]).toBe('v4999')
})

it('runs every step once, in order, and resumes only after a turn of the event loop', async () => {
  const seen: number[] = []
  let resumed = 0
  await inTimeSlices(
    1_000,
    (from, to) => {
      for (let i = from; i < to; i++) seen.push(i)
      const until = performance.now() + 1
      while (performance.now() < until);
    },
    async () => void resumed++,
  )
  expect(seen).toEqual(Array.from({ length: 1_000 }, (_, i) => i))
  expect(resumed).toBeGreaterThan(5)
})
