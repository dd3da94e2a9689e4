import { expect, it } from 'vitest'
import type { IndexRecord, KekRecord, KeyStoreRecord } from '../../src/keys/records.ts'
import { recordToJson } from '../../src/keys/record-json.ts'
import { rotateKek } from '../../src/attach.ts'
import { type Clinic, clinic } from '../support/clinic.ts'
import { newId } from '../support/records.ts'

async function sealed(world: Clinic = clinic()) {
  const { envelopes } = await world.seal('a', { ssn: 'x', email: 'ada@example.org' })
  const kek = (purpose: 'wrap' | 'index' = 'wrap') => {
    const found = world.keyStore.keks().find((record) => record.tenant === 'a' && record.purpose === purpose)
    if (found === undefined) throw new Error('no KEK')
    return found
  }
  return {
    ...world,
    kek,
    read: () => world.open('a', { ssn: envelopes[0] }),
    write: () => world.seal('a', { ssn: 'y' }),
  }
}
const invalid = { code: 'ERR_KEY_RECORD_INVALID', kind: 'corrupt' }

const EDITS: Partial<KekRecord>[] = [
  { version: 2 },
  { revision: 2 },
  { revision: 99 },
  { createdAt: 1 },
  { notAfter: 4_000_000_000_000 },
  { destroyAt: 1 },
  { compromised: true },
  { state: 'decrypt-only' },
  { parent: newId() },
  { mac: new Uint8Array(32) },
]

it('refuses a KEK record with any edited fact, to a process that starts', async () => {
  for (const edit of EDITS) {
    const { kek, keyStore, fieldseal, read } = await sealed()
    keyStore.tamper(kek().id, edit)
    fieldseal.purge('a')
    await expect(read(), JSON.stringify(edit)).rejects.toMatchObject(invalid)
  }
})

it('refuses the same edits to a process that has the key cached, as soon as it reads the record again', async () => {
  for (const edit of EDITS) {
    const { kek, keyStore, clock, read, settled } = await sealed()
    keyStore.tamper(kek().id, edit)
    clock.advance(60_000)
    await read().catch(() => undefined) // starts the re-reading
    await settled()
    await expect(read(), JSON.stringify(edit)).rejects.toMatchObject(invalid)
  }
})

it('never writes under a KEK that somebody put back in use', async () => {
  const world = await sealed()
  const leaked = world.kek()
  await rotateKek(world.fieldseal, { tenant: 'a' })
  const [newest] = world.keyStore.keks().filter(({ purpose, state }) => purpose === 'wrap' && state === 'active')
  world.keyStore.tamper(leaked.id, { state: 'active' })
  world.keyStore.tamper(newest?.id as never, { state: 'decrypt-only' })
  world.clock.advance(300_000)
  await expect(world.write()).rejects.toMatchObject(invalid)
})

it('refuses a KEK whose compromised mark was taken away', async () => {
  const world = await sealed()
  const marked: KekRecord = { ...world.kek(), compromised: true, revision: 2 }
  // What a holder of the key writes; the attacker takes the mark away and keeps the rest.
  world.keyStore.rows.set(marked.id, recordToJson(marked))
  world.keyStore.tamper(marked.id, { compromised: false })
  world.fieldseal.purge('a')
  await expect(world.write()).rejects.toMatchObject(invalid)
})

it('refuses a KEK with any flipped byte of its blob', async () => {
  const world = await sealed()
  const [wrap] = world.kek().wraps
  if (wrap === undefined) throw new Error('no wrap')
  for (let at = 0; at < wrap.blob.length; at++) {
    const blob = Buffer.from(wrap.blob)
    blob[at] = (blob[at] ?? 0) ^ 1
    world.keyStore.tamper(world.kek().id, { wraps: [{ ...wrap, blob }] })
    world.fieldseal.purge('a')
    await expect(world.read()).rejects.toMatchObject({ code: 'ERR_KMS_CIPHERTEXT_OR_CONTEXT_INVALID', kind: 'corrupt' })
  }
})

it('ignores what stands beside the facts as a hint: key version, time of the wrap', async () => {
  const world = await sealed()
  const [wrap] = world.kek().wraps
  world.keyStore.tamper(world.kek().id, {
    wraps: [{ ...wrap, keyVersion: '99', versionEvidence: 'parsed', wrappedAt: 1 }],
  })
  world.fieldseal.purge('a')
  expect((await world.read()).values).toEqual(['x'])
})

it('refuses the record of another tenant, keyspace or purpose put in the place of one', async () => {
  const world = await sealed()
  const { envelopes: ofB } = await world.seal('b', { ssn: 'of b' })
  const b = world.keyStore.keks().find(({ tenant, purpose }) => tenant === 'b' && purpose === 'wrap')
  if (b === undefined) throw new Error('no KEK of b')
  // Tenant a reads a value of b: the record moved to a, then the id of a's own with b's key.
  world.keyStore.tamper(b.id, { tenant: 'a', version: 9 })
  world.fieldseal.purge('a')
  await expect(world.open('a', { ssn: ofB[0] })).rejects.toMatchObject({ kind: 'corrupt' })
  world.keyStore.rows.delete(b.id)
  world.keyStore.tamper(world.kek().id, { wraps: b.wraps, mac: b.mac })
  world.fieldseal.purge('a')
  await expect(world.read()).rejects.toMatchObject({ kind: 'corrupt' })
})

it('refuses an index KEK where a value needs a wrapping one', async () => {
  const world = await sealed()
  const { envelopes } = await world.seal('a', { ssn: 'x' })
  const forged = Buffer.from(envelopes[0] ?? [])
  forged.write(world.kek('index').id, 3, 'hex')
  await expect(world.open('a', { ssn: forged })).rejects.toMatchObject({ kind: 'corrupt' })
})

it('ignores a genuine older record put back: the highest revision it has checked stands', async () => {
  const world = await sealed()
  const before = world.kek()
  const { kekId } = await rotateKek(world.fieldseal, { tenant: 'a' })
  expect(world.keyStore.keks().find(({ id }) => id === before.id)?.state).toBe('decrypt-only')
  await world.read() // checks revision 2
  world.keyStore.tamper(before.id, { ...before, rowVersion: 9 })
  world.keyStore.rows.delete(kekId) // and the new one hidden, so that the old one would be chosen
  world.clock.advance(300_000)
  const sealedAgain = await world.write()
  expect(sealedAgain.kekIds).not.toContain(before.id)
})

it('follows no chain of parents: records that name each other cannot hang a process', async () => {
  const world = await sealed()
  const { id } = world.kek()
  world.keyStore.tamper(id, { parent: id, wraps: [{ ...world.kek().wraps[0], provider: 'kek', uri: id }] })
  world.fieldseal.purge('a')
  await expect(world.read()).rejects.toMatchObject(invalid)
})

it('renews no MAC that did not hold', async () => {
  const world = await sealed()
  const before = world.kek()
  world.keyStore.tamper(before.id, { notAfter: 5_000_000_000_000 })
  await expect(rotateKek(world.fieldseal, { tenant: 'a' })).rejects.toMatchObject(invalid)
  expect(world.keyStore.keks().find(({ id }) => id === before.id)?.mac).toEqual(before.mac)
})

it('refuses every edited fact of an index record, cold and cached', async () => {
  const edits: [Partial<IndexRecord>, string][] = [
    [{ epoch: 2 }, 'ERR_KEY_RECORD_INVALID'],
    [{ role: 'next' }, 'ERR_KEY_RECORD_INVALID'],
    [{ role: 'old' }, 'ERR_KEY_RECORD_INVALID'],
    [{ revision: 2 }, 'ERR_KEY_RECORD_INVALID'],
    [{ mac: new Uint8Array(32) }, 'ERR_KEY_RECORD_INVALID'],
    [{ normalizer: 'lower@1' }, 'ERR_INDEX_UNKNOWN'],
    [{ bits: 64 }, 'ERR_INDEX_UNKNOWN'],
    [{ kekId: newId() }, 'ERR_KEY_NOT_FOUND'],
  ]
  for (const cached of [false, true]) {
    for (const [edit, code] of edits) {
      const world = await sealed()
      const [record] = world.keyStore.indexes()
      world.keyStore.tamper(record?.id as never, edit)
      if (cached) world.clock.advance(300_000)
      else world.fieldseal.purge('a')
      await expect(world.seal('a', { email: 'x@y' }), `${JSON.stringify(edit)} ${cached}`).rejects.toMatchObject({
        code,
      })
    }
  }
})

it('refuses an index record that names a wrapping KEK', async () => {
  const world = await sealed()
  const [record] = world.keyStore.indexes()
  world.keyStore.tamper(record?.id as never, { kekId: world.kek('wrap').id })
  world.fieldseal.purge('a')
  await expect(world.seal('a', { email: 'x@y' })).rejects.toMatchObject(invalid)
})

it('notices any record that is no record', async () => {
  const world = await sealed()
  const { id } = world.kek()
  for (const text of ['', '{}', 'null', '[]', '{"kind":"kek"}']) {
    world.keyStore.rows.set(id, text)
    world.fieldseal.purge('a')
    await expect(world.read(), text).rejects.toMatchObject(invalid)
  }
})

it('is not led astray by records of other keyspaces in the answer of a key store', async () => {
  const world = await sealed()
  const { load } = world.keyStore
  await world.seal('b', { ssn: 'y' })
  world.keyStore.load = async (refs) => {
    const own = await load(refs)
    const strangers: KeyStoreRecord[] = world.keyStore.keks().filter(({ tenant }) => tenant === 'b')
    return [...strangers, ...own]
  }
  world.fieldseal.purge('a')
  const { kekIds } = await world.write()
  expect(kekIds).toEqual([world.kek().id])
})
