import fc from 'fast-check'
import { expect, it } from 'vitest'
import { rotateKek } from '../../src/attach.ts'
import { keyIdOf, parseEnvelope } from '../../src/envelope/parse.ts'
import { directWrapOf } from '../../src/field/direct-value.ts'
import { internalsOf } from '../../src/internals.ts'
import { changeKek, rewrapRows } from '../../src/maintenance.ts'
import type { Envelope, RecordWriter, Row } from '../../src/record/ports.ts'
import type { RewrittenRow } from '../../src/record/rewritten.ts'
import { rewrapRow } from '../../src/record/rewrap-row.ts'
import { type Clinic, ID, OTHER_ID } from '../support/clinic.ts'
import { directCalls, type DirectClinic, directClinic, directPatients, redeployed } from '../support/direct.ts'
import { fakeCmk } from '../support/fake-cmk.ts'

const bytes = (envelope: unknown) => Buffer.from((envelope ?? []) as Uint8Array)
const VALUES = { ssn: 'x', email: 'ada@example.org' }

const rewrap = ({ fieldseal }: Clinic | DirectClinic, row: Row<unknown>) => {
  const { app, keyrings, settings } = internalsOf(fieldseal)
  return rewrapRow(row, { ...settings, app, keyrings })
}
/** A row of two cells sealed in `world`, as `reader` sees it. */
async function sealedFor(world: DirectClinic, reader: DirectClinic = world) {
  const { envelopes } = await world.seal('a', VALUES)
  return reader.rowOf('a', { ssn: envelopes[0], email: envelopes[1] }, ID) as Row<Envelope>
}
/** What a rewrap left behind, opened again by a process that knows nothing yet. */
async function reread(world: DirectClinic, patched: Awaited<ReturnType<typeof rewrap>>, model = directPatients()) {
  const again = redeployed(world, { cmk: world.cmk }, model)
  const [ssn, email] = patched.map(({ after }) => after)
  return (await again.open('a', { ssn, email })).values
}
const valuePart = (envelope: unknown) => bytes(envelope).subarray(parseEnvelope(bytes(envelope)).valueAt)

/** A new version of the CMK, made known to the process by a write of its own. */
async function versioned(rewraps: boolean) {
  const cmk = fakeCmk('one', { keyVersion: '1', rewraps })
  const world = directClinic({ cmk })
  const row = await sealedFor(world)
  cmk.keyVersion = '2'
  await world.seal('a', { ssn: 'teaches the version' }, OTHER_ID)
  cmk.calls.length = 0
  return { ...world, row }
}

it('leaves alone what the newest version of the first CMK has wrapped', async () => {
  const world = directClinic()
  expect(await rewrap(world, await sealedFor(world))).toEqual([])
  expect(directCalls(world.cmk)).toEqual(['wrap', 'unwrap'])
})

it('marks cells of an older version as outdated, once it knows the newer one', async () => {
  const { open, row } = await versioned(true)
  expect((await open('a', { ssn: row.cells[0]?.value })).outdated).toEqual([0])
  const unversioned = directClinic({ cmk: fakeCmk('one') })
  const { envelopes } = await unversioned.seal('a', { ssn: 'x' })
  expect((await unversioned.open('a', { ssn: envelopes[0] })).outdated).toEqual([])
})

it('rewraps inside the KMS where it can: the DEK’s bytes and values stay, the result is unwrapped before it counts', async () => {
  const world = await versioned(true)
  const patched = await rewrap(world, world.row)
  expect(directCalls(world.cmk)).toEqual(['unwrap', 'rewrap', 'unwrap'])
  expect(patched.map(({ before }) => before)).toEqual(world.row.cells.map(({ value }) => bytes(value)))
  for (const [i, { after }] of patched.entries()) {
    expect(directWrapOf(bytes(after)).label).toBe('2')
    expect(valuePart(after)).toEqual(valuePart(world.row.cells[i]?.value))
    expect(directWrapOf(bytes(after))).toEqual(directWrapOf(bytes(patched[0]?.after)))
  }
  expect(await reread(world, patched)).toEqual(Object.values(VALUES))
})

it('unwraps and wraps where the KMS cannot', async () => {
  const world = await versioned(false)
  const patched = await rewrap(world, world.row)
  expect(directCalls(world.cmk)).toEqual(['unwrap', 'wrap', 'unwrap'])
  expect(await reread(world, patched)).toEqual(Object.values(VALUES))
})

it('replaces nothing by a wrap that opens to another key', async () => {
  const world = await versioned(true)
  const { cmk } = world
  cmk.before = (operation) => {
    if (operation === 'rewrap') cmk.liar = true // a damaged answer, and nobody told
    if (operation === 'unwrap') cmk.liar = false
  }
  await expect(rewrap(world, world.row)).rejects.toMatchObject({ code: 'ERR_KMS_INTEGRITY_FAILED' })
})

it('moves rows from a former CMK to the first current one, by unwrap and wrap', async () => {
  const [old, one] = [fakeCmk('old', { rewraps: true }), fakeCmk('one', { rewraps: true })]
  const before = directClinic({ cmk: old })
  const world = redeployed(before, { cmk: one, keys: { cmks: [one], formerCmks: [old] } })
  const row = await sealedFor(before, world)
  expect((await world.open('a', { ssn: row.cells[0]?.value })).outdated, 'its record is not made yet').toEqual([])
  await world.fieldseal.prepare('a')
  expect((await world.open('a', { ssn: row.cells[0]?.value })).outdated).toEqual([0])
  old.calls.length = one.calls.length = 0
  const patched = await rewrap(world, row)
  expect([directCalls(old), directCalls(one)]).toEqual([[], ['wrap', 'unwrap']]) // its DEK was cached
  old.failure = 'ERR_KMS_KEY_DISABLED'
  expect(await reread(world, patched)).toEqual(Object.values(VALUES))
})

it('takes bound kek rows into direct and back, values untouched', async () => {
  const kek = directClinic({}, directPatients({ mode: 'kek' }))
  const direct = redeployed(kek, { cmk: kek.cmk }, directPatients({ accepts: ['kek'] }))
  const row = await sealedFor(kek, direct)
  await direct.fieldseal.prepare('a')
  expect((await direct.open('a', { ssn: row.cells[0]?.value })).outdated).toEqual([0])
  const there = await rewrap(direct, row)
  for (const [i, { after }] of there.entries()) {
    expect(parseEnvelope(bytes(after)).layout).toBe('direct')
    expect(valuePart(after)).toEqual(valuePart(row.cells[i]?.value))
  }
  expect(await reread(kek, there)).toEqual(Object.values(VALUES))

  const back = redeployed(kek, { cmk: kek.cmk }, directPatients({ mode: 'kek', accepts: ['direct'] }))
  const directRow = back.rowOf('a', { ssn: there[0]?.after, email: there[1]?.after }, ID)
  const home = await rewrap(back, directRow)
  for (const { after } of home) expect(parseEnvelope(bytes(after))).toMatchObject({ layout: 'kek', rowBound: true })
  expect(await reread(kek, home, directPatients({ mode: 'kek' }))).toEqual(Object.values(VALUES))
})

it('never binds an unbound kek row: that would certify where it stands', async () => {
  const kek = directClinic({}, directPatients({ mode: 'kek', bindRow: 'never' }))
  const direct = redeployed(kek, { cmk: kek.cmk }, directPatients({ accepts: ['kek', 'unbound'] }))
  const row = await sealedFor(kek, direct)
  await direct.fieldseal.prepare('a')
  await rotateKek(direct.fieldseal, { tenant: 'a' })
  expect(await rewrap(direct, row)).toEqual([])
  expect((await direct.open('a', { ssn: row.cells[0]?.value })).outdated).toEqual([])
})

it('takes an unbound kek row into direct when told to bind it, and leaves one under a compromised key', async () => {
  const kek = directClinic({}, directPatients({ mode: 'kek', bindRow: 'never' }))
  const direct = redeployed(kek, { cmk: kek.cmk }, directPatients({ accepts: ['kek', 'unbound'] }))
  const row = await sealedFor(kek, direct)
  await direct.fieldseal.prepare('a')
  const bound = () => rewrapRows(direct.fieldseal, [row], direct.as('a', direct.host.capture), { bind: true })
  const [outcome] = await bound()
  const cells = outcome === undefined || 'error' in outcome ? [] : outcome.cells
  expect(cells.map(({ after }) => parseEnvelope(bytes(after)).layout)).toEqual(['direct', 'direct'])
  expect(await reread(kek, cells)).toEqual(Object.values(VALUES))
  await changeKek(direct.fieldseal, keyIdOf(bytes(row.cells[0]?.value)), { to: 'compromised' })
  expect(await bound()).toEqual([{ cells: [] }])
})

const cellsOf = (outcome: RewrittenRow | undefined) =>
  outcome === undefined || 'error' in outcome ? expect.unreachable(JSON.stringify(outcome)) : outcome.cells

it('binds a renumbered direct row to where it stands now, and leaves one that was done before', async () => {
  const world = directClinic()
  const { envelopes } = await world.seal('a', VALUES)
  const at = (ssn: unknown, email: unknown) => world.rowOf('a', { ssn, email }, OTHER_ID)
  const rebind = (row: Row<unknown>, from = ID) =>
    rewrapRows(world.fieldseal, [row], world.as('a', world.host.capture), {
      bind: true,
      formerRowIds: [world.rowOf('a', {}, from).facts.rowId],
    })
  const moved = at(envelopes[0], envelopes[1])
  expect(await rebind(moved, 'c0ffee00-3f7c-4ac3-9a2e-000000000001')).toMatchObject([{ error: { kind: 'corrupt' } }])
  const cells = cellsOf((await rebind(moved))[0])
  expect(cells.map(({ before }) => bytes(before))).toEqual(envelopes.map(bytes))
  for (const [i, { after }] of cells.entries()) expect(valuePart(after)).toEqual(valuePart(envelopes[i]))
  const now = at(cells[0]?.after, cells[1]?.after)
  const again = redeployed(world, { cmk: world.cmk })
  const read = (id: string) => again.openRows([[id, cells[0]?.after]])
  expect((await read(OTHER_ID))[0]).toMatchObject({ values: [VALUES.ssn] })
  await expect(read(ID)).rejects.toMatchObject({ kind: 'corrupt' })
  expect(await rebind(now)).toEqual([{ cells: [] }])
})

it('binds a renumbered row on its way from a KEK into direct, and gives it a new DEK where the KEK has leaked', async () => {
  const kek = directClinic({}, directPatients({ mode: 'kek' }))
  const direct = redeployed(kek, { cmk: kek.cmk }, directPatients({ accepts: ['kek'] }))
  const { envelopes } = await kek.seal('a', VALUES)
  await direct.fieldseal.prepare('a')
  const rebind = () =>
    rewrapRows(
      direct.fieldseal,
      [direct.rowOf('a', { ssn: envelopes[0], email: envelopes[1] }, OTHER_ID)],
      direct.as('a', direct.host.capture),
      { bind: true, formerRowIds: [direct.rowOf('a', {}, ID).facts.rowId] },
    )
  const same = (await rebind()).flatMap(cellsOf)
  expect(same.map(({ after }) => valuePart(after))).toEqual(envelopes.map(valuePart))
  await changeKek(direct.fieldseal, keyIdOf(bytes(envelopes[0])), { to: 'compromised' })
  const renewed = (await rebind()).flatMap(cellsOf)
  expect(renewed.map(({ after }) => parseEnvelope(bytes(after)).layout)).toEqual(['direct', 'direct'])
  for (const [i, { after }] of renewed.entries()) expect(valuePart(after)).not.toEqual(valuePart(envelopes[i]))
  for (const cells of [same, renewed]) {
    const opened = await redeployed(kek, { cmk: kek.cmk }).openRows([[OTHER_ID, cells[0]?.after]])
    expect(opened[0]).toMatchObject({ values: [VALUES.ssn] })
  }
})

it('brings a renumbered direct row home under a KEK', async () => {
  const before = directClinic()
  const { envelopes } = await before.seal('a', VALUES)
  const kek = redeployed(before, { cmk: before.cmk }, directPatients({ mode: 'kek', accepts: ['direct'] }))
  const [outcome] = await rewrapRows(
    kek.fieldseal,
    [kek.rowOf('a', { ssn: envelopes[0], email: envelopes[1] }, OTHER_ID)],
    kek.as('a', kek.host.capture),
    { bind: true, formerRowIds: [kek.rowOf('a', {}, ID).facts.rowId] },
  )
  const [ssn] = cellsOf(outcome)
  expect(parseEnvelope(bytes(ssn?.after)).layout).toBe('kek')
  expect((await kek.openRows([[OTHER_ID, ssn?.after]]))[0]).toMatchObject({ values: [VALUES.ssn] })
})

it('rewraps nothing that does not open where it stands', async () => {
  const { rowOf, row, ...world } = await versioned(true)
  const [ssn, email] = row.cells.map(({ value }) => value)
  const forged = bytes(ssn)
  forged[18] = (forged[18] ?? 0) ^ 1
  for (const wrong of [
    rowOf('a', { ssn: email, email: ssn }, ID),
    rowOf('a', { ssn, email }, OTHER_ID),
    rowOf('a', { ssn: forged, email }, ID),
  ])
    await expect(rewrap({ ...world, rowOf } as DirectClinic, wrong)).rejects.toMatchObject({ kind: 'corrupt' })
  expect(directCalls(world.cmk)).not.toContain('rewrap')
})

it('rewraps only what is outdated in a row of several writes', async () => {
  const { seal, rowOf, row, ...world } = await versioned(true)
  const fresh = await seal('a', { email: 'new@example.org' })
  const mixed = rowOf('a', { ssn: row.cells[0]?.value, email: fresh.envelopes[0] }, ID)
  const patched = await rewrap({ ...world, seal, rowOf } as DirectClinic, mixed)
  expect(patched.map(({ field }) => field.id)).toEqual(['ssn'])
})

it('is done in the background by the queue, compare-and-set', async () => {
  const world = await versioned(true)
  const stored = new Map(world.row.cells.map(({ field, value }) => [field.id, value]))
  const writer: RecordWriter = {
    async compareAndSet(_map, patches) {
      return patches.map(({ cells }) => {
        if (cells.some(({ field, before }) => !bytes(stored.get(field.id)).equals(bytes(before)))) return 'changed'
        for (const { field, after } of cells) stored.set(field.id, after)
        return 'updated'
      })
    },
  }
  world.host.rewraps.offer(world.row, 'key', writer)
  world.host.rewraps.offer(world.row, 'key', writer)
  expect(await world.fieldseal.flush()).toEqual({ updated: 1, changed: 1 })
  expect(directWrapOf(bytes(stored.get('ssn'))).label).toBe('2')
})

it('does not write over a record that was denied, or with a CMK that is', async () => {
  const { keyStore, ...denied } = await versioned(true)
  const [record] = keyStore.records().filter(({ kind }) => kind === 'direct')
  keyStore.tamper(record?.id as never, { denial: 'retired' })
  denied.fieldseal.purge('a')
  await expect(rewrap({ ...denied, keyStore } as DirectClinic, denied.row)).rejects.toMatchObject({
    code: 'ERR_KEY_RETIRED',
  })
  const world = await versioned(true)
  world.cmk.failure = 'ERR_KMS_ACCESS_DENIED'
  await expect(rewrap(world, world.row)).rejects.toMatchObject({ code: 'ERR_KMS_ACCESS_DENIED' })
})

it('keeps every value through any chain of modes, versions and CMKs', async () => {
  const step = fc.record({
    mode: fc.constantFrom('kek', 'direct'),
    cmk: fc.constantFrom(0, 1),
    version: fc.constantFrom('1', '2', undefined),
  } as const)
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 6 }), async (steps) => {
      const cmks = [fakeCmk('zero', { rewraps: true }), fakeCmk('one')] as const
      const configured = (at: 0 | 1) => ({
        cmk: cmks[at],
        keys: { cmks: [cmks[at]], formerCmks: [cmks[at === 0 ? 1 : 0]] },
      })
      const first = directClinic(configured(0), directPatients({ mode: 'kek' }))
      let { envelopes } = await first.seal('a', VALUES)
      for (const { mode, cmk, version } of steps) {
        cmks[cmk].keyVersion = version
        const model = directPatients({ mode, accepts: [mode === 'kek' ? 'direct' : 'kek'] })
        const world = redeployed(first, configured(cmk), model)
        await world.fieldseal.prepare('a')
        const row = world.rowOf('a', { ssn: envelopes[0], email: envelopes[1] }, ID)
        const patched = await rewrap(world, row)
        envelopes = envelopes.map((envelope, i) => patched[i]?.after ?? envelope)
        for (const envelope of envelopes) expect(parseEnvelope(bytes(envelope)).layout).toBe(mode)
        expect((await world.open('a', { ssn: envelopes[0], email: envelopes[1] })).values).toEqual(
          Object.values(VALUES),
        )
      }
    }),
    { numRuns: 25 },
  )
})
