import { expect, it } from 'vitest'
import { clinic, ID, NOTES } from '../support/clinic.ts'
import { directPatients } from '../support/direct.ts'
import { fakeCmk } from '../support/fake-cmk.ts'
import { oneConnectionStore, type Connection } from '../support/one-connection-store.ts'

const FREE: Connection = { inTransaction: false }

/** What does not come to an end is a deadlock. */
async function inTime<R>(work: Promise<R>): Promise<R> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => (timer = setTimeout(() => reject(new Error('deadlock')), 3_000)))
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}

function world(model?: Parameters<typeof clinic>[1]) {
  const engine = oneConnectionStore()
  const cmk = fakeCmk('cmk')
  const clinicOf = () => clinic({ keyStore: engine.store as never, cmk }, model)
  return { ...engine, clinicOf, ...clinicOf() }
}

it('makes keys through the connection outside of any transaction', async () => {
  const { seal, plain, joined } = world()
  await inTime(seal('a', { ssn: 'x', email: 'ada@example.org' }, ID, FREE))
  expect(plain).toEqual([])
  expect(joined.filter((name) => name === 'insert')).toHaveLength(3)
})

it('reads cold keys inside a transaction through its own connection', async () => {
  const { seal, clinicOf, transaction, plain } = world()
  const { envelopes } = await seal('a', { ssn: 'x' }, ID, FREE)
  const { open } = clinicOf()
  plain.length = 0
  const opened = await inTime(transaction((via) => open('a', { ssn: envelopes[0] }, ID, via)))
  expect(opened.values).toEqual(['x'])
  expect(plain).toEqual([])
})

it('names prepare where a key would have to be made inside a transaction', async () => {
  const { seal, transaction, inner } = world()
  for (const values of [{ ssn: 'x' }, { email: 'ada@example.org' }])
    await expect(inTime(transaction((via) => seal('a', values, ID, via)))).rejects.toMatchObject({
      code: 'ERR_KEY_MISSING',
      kind: 'misuse',
      details: { tenant: 'a', hint: expect.stringContaining('fieldseal.prepare(tenant') as string },
    })
  expect(inner.rows.size).toBe(0)
})

it('writes inside a transaction once the keys were prepared', async () => {
  const { seal, transaction, fieldseal } = world()
  await fieldseal.prepare('a')
  const sealed = await inTime(transaction((via) => seal('a', { ssn: 'x', email: 'ada@example.org' }, ID, via)))
  expect(sealed.envelopes).toHaveLength(2)
})

it('never waits in a transaction for a reading that waits for its end', async () => {
  const { seal, clinicOf, transaction } = world()
  const { envelopes } = await seal('a', { ssn: 'x' }, ID, FREE)
  for (const ms of [0, 60_000, 300_000, 600_000]) {
    const { open, clock, settled } = clinicOf()
    if (ms > 0) await open('a', { ssn: envelopes[0] }, ID, FREE)
    clock.advance(ms)
    const outside: Promise<unknown>[] = []
    const inside = await inTime(
      transaction(async (via) => {
        outside.push(...Array.from({ length: 5 }, () => open('a', { ssn: envelopes[0] }))) // waits for the connection
        await settled()
        return open('a', { ssn: envelopes[0] }, ID, via)
      }),
    )
    expect(inside.values, `${ms} ms old`).toEqual(['x'])
    await inTime(Promise.all(outside))
  }
})

it('never waits in a transaction for a key that somebody outside of it is making', async () => {
  const { seal, transaction, settled } = world()
  const outside: Promise<unknown>[] = []
  await inTime(
    transaction(async (via) => {
      outside.push(seal('a', { ssn: 'x', email: 'ada@example.org' })) // will insert when the transaction has ended
      await settled()
      await expect(seal('a', { ssn: 'y' }, ID, via)).rejects.toMatchObject({ code: 'ERR_KEY_MISSING' })
    }),
  )
  await inTime(Promise.all(outside))
})

it('never waits in a transaction for an unknown id that somebody outside looks for', async () => {
  const { seal, clinicOf, transaction, inner } = world()
  const { envelopes, kekIds } = await seal('a', { ssn: 'x' }, ID, FREE)
  const { open, settled } = clinicOf()
  await open('a', { ssn: envelopes[0] }, ID, FREE)
  const other = clinicOf()
  await other.fieldseal.prepare('a')
  inner.rows.delete(kekIds[0] ?? '')
  const outside: Promise<unknown>[] = []
  await inTime(
    transaction(async (via) => {
      outside.push(other.open('a', { ssn: envelopes[0] }).catch(() => undefined))
      await settled()
      await other.open('a', { ssn: envelopes[0] }, ID, via).catch(() => undefined)
    }),
  )
  await inTime(Promise.all(outside))
})

it('opens keys of data subjects in a transaction beside others that wait for it', async () => {
  const { clinicOf, transaction, rowOf, as, host } = world(NOTES)
  const sealed = await as('a', async () =>
    host.cipher.seal([rowOf('a', { text: 'x' }, ID, { patient: 'p' })], host.capture(), FREE),
  )
  const cell = sealed[0]?.envelopes[0]
  for (const ms of [0, 60_000, 300_000]) {
    const other = clinicOf()
    const read = (via?: unknown) =>
      other.as('a', async () =>
        other.host.cipher.open([other.rowOf('a', { text: cell }, ID, { patient: 'p' })], other.host.capture(), via),
      )
    if (ms > 0) await read(FREE)
    other.clock.advance(ms)
    const outside: Promise<unknown>[] = []
    const inside = await inTime(
      transaction(async (via) => {
        outside.push(read(), read())
        await other.settled()
        return read(via)
      }),
    )
    expect(inside[0]?.values).toEqual(['x'])
    await inTime(Promise.all(outside))
  }
})

it('does the same in mode direct: its record is made outside of a transaction, read inside, and never waits for one', async () => {
  const { seal, transaction, inner, plain, clinicOf } = world(directPatients())
  await expect(inTime(transaction((via) => seal('a', { ssn: 'x' }, ID, via)))).rejects.toMatchObject({
    code: 'ERR_KEY_MISSING',
    details: { hint: expect.stringContaining('fieldseal.prepare(tenant') as string },
  })
  expect(inner.rows.size).toBe(0)
  const { envelopes } = await inTime(seal('a', { ssn: 'x' }, ID, FREE))
  expect(plain).toEqual([])
  const cold = clinicOf()
  await inTime(
    transaction(async (via) => {
      expect((await cold.open('a', { ssn: envelopes[0] }, ID, via)).values).toEqual(['x'])
      await cold.seal('a', { ssn: 'y' }, ID, via)
    }),
  )
  expect(plain).toEqual([])
})
