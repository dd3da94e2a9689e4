import { expect, it } from 'vitest'
import { rotateKek } from '../../src/attach.ts'
import { clinic, ID, NOTES } from '../support/clinic.ts'

function notes() {
  const world = clinic({}, NOTES)
  const row = (patient: string, text: unknown) => world.rowOf('a', { text }, ID, { patient })
  const seal = (patients: readonly string[]) =>
    world.as('a', async () =>
      world.host.cipher.seal(
        patients.map((patient) => row(patient, `of ${patient}`)),
        world.host.capture(),
      ),
    )
  const open = (cells: readonly (readonly [string, unknown])[]) =>
    world.as('a', async () => {
      const opened = await world.host.cipher.open(
        cells.map(([patient, cell]) => row(patient, cell)),
        world.host.capture(),
      )
      return opened.flatMap(({ values }) => values)
    })
  return { ...world, seal, open }
}
const PATIENTS = Array.from({ length: 1_000 }, (_, i) => `p${i}`)

it('costs one KMS call for a thousand subjects, making and reading', async () => {
  const { seal, open, cmk, fieldseal, keyStore } = notes()
  const sealed = await seal(PATIENTS)
  expect(cmk.operations()).toEqual(['wrap', 'unwrap'])
  expect(keyStore.keks()).toHaveLength(1_001)
  fieldseal.purge('a')
  cmk.calls.length = 0
  const values = await open(PATIENTS.map((patient, i) => [patient, sealed[i]?.envelopes[0]] as const))
  expect(values.slice(0, 2)).toEqual(['of p0', 'of p1'])
  expect(cmk.operations()).toEqual(['unwrap'])
})

it('refuses the value of one subject read as another', async () => {
  const { seal, open } = notes()
  const [one] = await seal(['p1', 'p2'])
  await expect(open([['p2', one?.envelopes[0]]])).rejects.toMatchObject({ code: 'ERR_KEY_NOT_FOUND' })
})

it('erases one subject and no other, and makes no new key for it', async () => {
  const { seal, open, keyStore, fieldseal } = notes()
  const [one, two] = await seal(['p1', 'p2'])
  const record = keyStore.keks().find(({ keyspace }) => keyspace === 'subject:patient:p1')
  keyStore.tamper(record?.id as never, { denial: 'destroyed', wraps: [] })
  fieldseal.purge('a')
  await expect(open([['p1', one?.envelopes[0]]])).rejects.toMatchObject({ code: 'ERR_KEY_ERASED', kind: 'erased' })
  await expect(seal(['p1'])).rejects.toMatchObject({ code: 'ERR_KEY_ERASED' })
  expect(await open([['p2', two?.envelopes[0]]])).toEqual(['of p2'])
})

it('closes all subjects when the key above them is denied', async () => {
  const { seal, open, keyStore, clock, settled, cmk } = notes()
  const [one] = await seal(['p1'])
  const parent = keyStore.keks().find(({ keyspace }) => keyspace === 'default')
  keyStore.tamper(parent?.id as never, { denial: 'retired' })
  clock.advance(60_000)
  await open([['p1', one?.envelopes[0]]]).catch(() => undefined)
  await settled()
  await expect(open([['p1', one?.envelopes[0]]])).rejects.toMatchObject({ code: 'ERR_KEY_RETIRED' })
  keyStore.tamper(parent?.id as never, { denial: undefined })
  clock.advance(300_000)
  expect(await open([['p1', one?.envelopes[0]]])).toEqual(['of p1'])

  cmk.failure = 'ERR_KMS_KEY_DISABLED'
  clock.advance(300_000)
  await expect(open([['p1', one?.envelopes[0]]])).rejects.toMatchObject({ code: 'ERR_KMS_KEY_DISABLED' })
})

it('dies with the key above: a subject’s key is never stale beyond it', async () => {
  const { seal, open, clock, cmk } = notes()
  const [one] = await seal(['p1'])
  cmk.failure = 'ERR_KMS_UNKNOWN'
  clock.advance(899_999)
  expect(await open([['p1', one?.envelopes[0]]])).toEqual(['of p1'])
  clock.advance(1)
  await expect(open([['p1', one?.envelopes[0]]])).rejects.toMatchObject({ kind: 'unavailable' })
})

it('refuses a subject’s key whose wrap was altered, moved from another subject or lost its parent', async () => {
  const { seal, open, keyStore, fieldseal } = notes()
  const [one] = await seal(['p1', 'p2'])
  const find = (name: string) => keyStore.keks().find(({ keyspace }) => keyspace === `subject:patient:${name}`)
  const [own, other] = [find('p1'), find('p2')]
  const [wrap] = own?.wraps ?? []
  if (own === undefined || wrap === undefined || other === undefined) throw new Error('no KEKs')
  const attempts: object[] = [{ wraps: other.wraps }, { wraps: [] }, { parent: undefined }, { parent: other.id }]
  for (let at = 0; at < wrap.blob.length; at++) {
    const blob = Buffer.from(wrap.blob)
    blob[at] = (blob[at] ?? 0) ^ 1
    attempts.push({ wraps: [{ ...wrap, blob }] })
  }
  for (const change of [...attempts, { wraps: [{ ...wrap, blob: wrap.blob.slice(1) }] }]) {
    keyStore.tamper(own.id, { ...own, ...change })
    fieldseal.purge('a')
    await expect(open([['p1', one?.envelopes[0]]]), JSON.stringify(change)).rejects.toMatchObject({ kind: 'corrupt' })
  }
  keyStore.tamper(own.id, own)
  fieldseal.purge('a')
  expect(await open([['p1', one?.envelopes[0]]])).toEqual(['of p1'])
})

it('reads subjects under an older key of the tenant, and rotates them under the newest', async () => {
  const { seal, open, keyStore, fieldseal } = notes()
  const [one] = await seal(['p1'])
  const { kekId } = await rotateKek(fieldseal, { tenant: 'a' })
  fieldseal.purge('a')
  expect(await open([['p1', one?.envelopes[0]]])).toEqual(['of p1'])
  const rotated = await rotateKek(fieldseal, { tenant: 'a', keyspace: 'subject:patient:p1' })
  expect(keyStore.keks().find(({ id }) => id === rotated.kekId)?.parent).toBe(kekId)
  expect(await open([['p1', one?.envelopes[0]]])).toEqual(['of p1'])
})

it('writes of more subjects than the cache may hold', async () => {
  const world = clinic({ cache: { maxEntries: 5 } }, NOTES)
  const patients = PATIENTS.slice(0, 60)
  const rows = patients.map((patient) => world.rowOf('a', { text: patient }, ID, { patient }))
  const sealed = await world.as('a', async () => world.host.cipher.seal(rows, world.host.capture()))
  const stored = patients.map((patient, i) => world.rowOf('a', { text: sealed[i]?.envelopes[0] }, ID, { patient }))
  const opened = await world.as('a', async () => world.host.cipher.open(stored, world.host.capture()))
  expect(opened.map(({ values }) => values[0])).toEqual(patients)
  expect(world.cmk.operations().length).toBeLessThan(patients.length)
})
