import { expect, it } from 'vitest'
import { rotateKek } from '../../src/attach.ts'
import { internalsOf } from '../../src/internals.ts'
import { rewrapRow } from '../../src/record/rewrap-row.ts'
import type { Envelope, RecordWriter, Row, RowPatch } from '../../src/record/ports.ts'
import { type Clinic, clinic, ID, OTHER_ID, PATIENTS } from '../support/clinic.ts'

const rewrap = ({ fieldseal }: Clinic, row: Row<unknown>) => {
  const { app, keyrings, settings } = internalsOf(fieldseal)
  return rewrapRow(row, { ...settings, app, keyrings })
}
const bytes = (envelope: Uint8Array | null | undefined) => Buffer.from(envelope ?? [])

async function rotated(world: Clinic = clinic()) {
  const { envelopes } = await world.seal('a', { ssn: 'x', email: 'ada@example.org' })
  const { kekId } = await rotateKek(world.fieldseal, { tenant: 'a' })
  const row = world.rowOf('a', { ssn: envelopes[0], email: envelopes[1] }, ID) as Row<Envelope>
  return { ...world, row, envelopes, kekId }
}

it('replaces the wrap and keeps value, flags and type byte by byte', async () => {
  const world = await rotated()
  const cells = await rewrap(world, world.row)
  expect(cells).toHaveLength(2)
  for (const [i, { before, after }] of cells.entries()) {
    const [old, now] = [bytes(before), bytes(after)]
    expect(old).toEqual(bytes(world.envelopes[i]))
    expect(now.toString('hex', 3, 15)).toBe(world.kekId)
    expect(now.subarray(15, 18)).toEqual(old.subarray(15, 18))
    expect(now.subarray(84)).toEqual(old.subarray(84))
    expect(now.subarray(18, 84)).not.toEqual(old.subarray(18, 84))
  }
  expect(bytes(cells[0]?.after).subarray(18, 84)).toEqual(bytes(cells[1]?.after).subarray(18, 84)) // one new wrap for both
  const opened = await world.open('a', { ssn: cells[0]?.after, email: cells[1]?.after })
  expect(opened).toMatchObject({ values: ['x', 'ada@example.org'], outdated: [] })
})

it('gives nothing when all is under the newest key, and only the outdated cells otherwise', async () => {
  const world = await rotated()
  const fresh = await world.seal('a', { ssn: 'new' })
  expect(await rewrap(world, world.rowOf('a', { ssn: fresh.envelopes[0] }, ID))).toEqual([])
  const cells = await rewrap(world, world.rowOf('a', { ssn: fresh.envelopes[0], email: world.envelopes[1] }, ID))
  expect(cells.map(({ field }) => field.path)).toEqual(['email'])
})

it('leaves an unbound value unbound, although the row is known by now', async () => {
  const world = clinic({}, { ...PATIENTS, options: { tenantBy: 'clinic_id', bindRow: 'never' } })
  const { envelopes } = await world.seal('a', { ssn: 'x' })
  await rotateKek(world.fieldseal, { tenant: 'a' })
  const binding = clinic({ keyStore: world.keyStore, cmk: world.cmk })
  const [cell] = await rewrap(binding, binding.rowOf('a', { ssn: envelopes[0] }, ID))
  expect(bytes(cell?.after)[15]).toBe(0)
})

it('refuses to renew the wrap of a value that does not open where it stands', async () => {
  const world = await rotated()
  const [ssn] = world.envelopes
  const failed = { code: 'ERR_DECRYPT_FAILED' }
  await expect(rewrap(world, world.rowOf('a', { email: ssn }, ID))).rejects.toMatchObject(failed) // another column
  await expect(rewrap(world, world.rowOf('a', { ssn }, OTHER_ID))).rejects.toMatchObject(failed) // another row
  await world.seal('b', { ssn: 'x' })
  await expect(rewrap(world, world.rowOf('b', { ssn }, ID))).rejects.toMatchObject({ code: 'ERR_KEY_NOT_FOUND' }) // another tenant
  const broken = bytes(ssn)
  broken[99] = (broken[99] ?? 0) ^ 1
  await expect(rewrap(world, world.rowOf('a', { ssn: broken }, ID))).rejects.toMatchObject(failed)
})

it('refuses under a key that was retired since', async () => {
  const world = await rotated()
  world.keyStore.tamper(
    world.envelopes[0] === undefined ? ('' as never) : (bytes(world.envelopes[0]).toString('hex', 3, 15) as never),
    { denial: 'retired' },
  )
  world.fieldseal.purge('a')
  await expect(rewrap(world, world.row)).rejects.toMatchObject({ code: 'ERR_KEY_RETIRED' })
})

function writer(answer: 'updated' | 'changed' | Error = 'updated') {
  const patches: RowPatch[] = []
  const batches: number[] = []
  const one: RecordWriter = {
    async compareAndSet(_map, given) {
      if (answer instanceof Error) throw answer
      patches.push(...given)
      batches.push(given.length)
      return given.map(() => answer)
    },
  }
  return { one, patches, batches }
}

it('writes what was offered, in the background, in few batches', async () => {
  const world = await rotated()
  const { one, patches, batches } = writer()
  for (let i = 0; i < 500; i++) world.host.rewraps.offer(world.row, i, one)
  expect(patches).toEqual([])
  await new Promise((resolve) => setTimeout(resolve, 120))
  expect(await world.fieldseal.flush()).toEqual({ updated: expect.any(Number) as number, changed: 0 })
  expect(patches.map(({ key }) => key)).toEqual(Array.from({ length: 500 }, (_, i) => i))
  expect(batches).toEqual([200, 200, 100])
  expect(world.events('rewrap.done').reduce((sum, { updated }) => sum + updated, 0)).toBe(500)
})

it('flushes what was offered and counts what others changed meanwhile', async () => {
  const world = await rotated()
  const { one } = writer('changed')
  world.host.rewraps.offer(world.row, 1, one)
  expect(await world.fieldseal.flush()).toEqual({ updated: 0, changed: 1 })
  expect(await world.fieldseal.flush()).toEqual({ updated: 0, changed: 0 })
})

it('holds at most 10,000 rows and says what it dropped', async () => {
  const world = await rotated()
  const { one, patches } = writer()
  for (let i = 0; i < 10_003; i++) world.host.rewraps.offer({ ...world.row, cells: [] }, i, one)
  expect(world.events('rewrap.dropped')).toHaveLength(3)
  world.host.rewraps.offer(world.row, 'late', one)
  expect(world.events('rewrap.dropped')).toMatchObject([{}, {}, {}, { tenant: 'a', model: 'patients', cells: 2 }])
  await world.fieldseal.flush()
  expect(patches).toEqual([]) // rows without cells need no write
})

it('reports failures as events, never to the reader, and goes on with the next row', async () => {
  const world = await rotated()
  const failing = writer(new Error('duplicate key: SECRET'))
  const working = writer()
  world.host.rewraps.offer(world.row, 1, failing.one)
  world.host.rewraps.offer({ ...world.row, facts: { ...world.row.facts, tenant: 'b' } }, 2, working.one)
  world.host.rewraps.offer(world.row, 3, working.one)
  expect(await world.fieldseal.flush()).toEqual({ updated: 1, changed: 0 })
  expect(world.events('background.failed')).toMatchObject([
    { operation: 'rewrap', tenant: 'a', code: 'unclassified' },
    { operation: 'rewrap', tenant: 'b' },
  ])
  expect(JSON.stringify(world.heard)).not.toContain('SECRET')
})

it('writes the rows of two tenants and two writers apart', async () => {
  const world = await rotated()
  const [one, two] = [writer(), writer()]
  for (const target of [one, one, two, one]) world.host.rewraps.offer(world.row, 1, target.one)
  await world.fieldseal.flush()
  expect([one.batches, two.batches]).toEqual([[2, 1], [1]])
})

it('finishes what is queued when it is closed, and takes no more', async () => {
  const world = await rotated()
  const { one, patches } = writer()
  world.host.rewraps.offer(world.row, 1, one)
  await world.fieldseal.close()
  expect(patches).toHaveLength(1)
  world.host.rewraps.offer(world.row, 2, one)
  expect(world.events('rewrap.dropped')).toHaveLength(1)
  await new Promise((resolve) => setTimeout(resolve, 40))
  expect(patches).toHaveLength(1)
})

it('asks again for keys that were purged since the row was read', async () => {
  const world = await rotated()
  const { one, patches } = writer()
  world.host.rewraps.offer(world.row, 1, one)
  world.fieldseal.purge('a')
  world.cmk.failure = 'ERR_KMS_KEY_DISABLED'
  expect(await world.fieldseal.flush()).toEqual({ updated: 0, changed: 0 })
  expect(patches).toEqual([])
  expect(world.events('background.failed')).toMatchObject([{ code: 'ERR_KMS_KEY_DISABLED' }])
})
