import { randomBytes } from 'node:crypto'
import { expect, it } from 'vitest'
import { attach } from '../../src/attach.ts'
import { createFieldseal } from '../../src/create-fieldseal.ts'
import { internalsOf } from '../../src/internals.ts'
import { type Cmk, type KmsRequest, SecretKey } from '../../src/kms.ts'
import type { KeyStore } from '../../src/keys/key-store.ts'
import { type KeyStoreRecord, keyspaceOf, slotOf } from '../../src/keys/records.ts'
import type { Row } from '../../src/record/ports.ts'
import { ID, PATIENTS } from '../support/clinic.ts'
import { manualClock } from '../support/manual-clock.ts'

const REFRESH_MS = 60_000
const PROCESSES = 10

/** A KMS that only counts: who asked for what, in which refresh interval. */
function countingCmk(now: () => number) {
  const keys = new Map<string, Uint8Array>()
  const unwraps = new Map<string, number>()
  const total = { wrap: 0, unwrap: 0 }
  const cmk: Cmk = {
    provider: 'fake',
    uri: 'cmk',
    credentialScope: 'all',
    facts: { bindsContext: true, authenticatesWrap: true, maxBlobBytes: 16 },
    async wrap(key) {
      total.wrap++
      const blob = randomBytes(16)
      keys.set(blob.toString('hex'), Uint8Array.from(key.exposeBytes()))
      return { blob, versionEvidence: 'unknown' }
    },
    async unwrap({ blob }, { context }: KmsRequest) {
      total.unwrap++
      const interval = `${context['tenant']} ${Math.floor(now() / REFRESH_MS)}`
      unwraps.set(interval, (unwraps.get(interval) ?? 0) + 1)
      return new SecretKey(Uint8Array.from(keys.get(Buffer.from(blob).toString('hex')) ?? []))
    },
  }
  return { cmk, total, unwraps }
}

/** A key store in memory that finds a keyspace without looking at all others. */
function indexedStore(): KeyStore & { readonly calls: { load: number; insert: number } } {
  const byKeyspace = new Map<string, KeyStoreRecord[]>()
  const calls = { load: 0, insert: 0 }
  const nameOf = (tenant: string, keyspace: string) => `${tenant}\0${keyspace}`
  return {
    calls,
    find: async () => [],
    async load(refs) {
      calls.load++
      return refs.flatMap(({ tenant, keyspace }) =>
        (byKeyspace.get(nameOf(tenant, keyspace)) ?? []).map((one) => ({ ...one })),
      )
    },
    async insert(record) {
      calls.insert++
      const name = nameOf(record.tenant, keyspaceOf(record))
      const records = byKeyspace.get(name) ?? []
      if (records.some((one) => slotOf(one) === slotOf(record))) return 'exists'
      byKeyspace.set(name, [...records, record])
      return 'inserted'
    },
    update: async () => 'changed',
    async *list() {},
  }
}

/** Several processes of one application, on one KMS and one key store, under one clock. */
function cluster() {
  const clock = manualClock()
  const startedAt = clock.now()
  const kms = countingCmk(() => clock.now() - startedAt)
  const keyStore = indexedStore()
  const processes = Array.from({ length: PROCESSES }, () =>
    createFieldseal({ app: 'clinic', tenancy: 'multi', keyStore, keys: { cmks: [kms.cmk] }, clock }),
  )
  /** Lets refreshes in the background finish. */
  const settled = async () => {
    for (let before = -1; before !== kms.total.unwrap + keyStore.calls.load; ) {
      before = kms.total.unwrap + keyStore.calls.load
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
  return { clock, kms, keyStore, processes, settled }
}

/**
 * What design §9 promises: Σ over processes of KEKs used × (1 + refreshes falling due while in use). Making a KEK is a
 * wrap, and an unwrap that stands for the first use in the process that made it.
 */
function promised(tenants: number, keksEach: number, rounds: number, everyMs: number) {
  const refreshes = Math.floor(((rounds - 1) * everyMs) / REFRESH_MS)
  return { wrap: tenants * keksEach, unwrap: PROCESSES * tenants * keksEach * (1 + refreshes) }
}

it('asks the KMS as often as the formula says for 1,000,000 reads and writes of 500 tenants in 10 processes (key look-ups of real keyrings for batches of five rows, without the ciphers)', {
  timeout: 60_000,
}, async () => {
  const TENANTS = 500
  const ROUNDS = 20
  const EVERY_MS = 7_000
  const ROWS = 5
  const { clock, kms, keyStore, processes, settled } = cluster()
  const keyrings = processes.map((one) => internalsOf(one).keyrings)
  const refs = Array.from({ length: TENANTS }, (_, i) => ({ app: 'clinic', tenant: `t${i}`, keyspace: 'default' }))
  let uses = 0
  for (let round = 0; round < ROUNDS; round++) {
    if (round > 0) clock.advance(EVERY_MS)
    for (const keyring of keyrings)
      for (const ref of refs) {
        // What a batch of writes looks for, its DEKs' KEK and its tokens' KEK, and what a batch of reads does.
        const kek = await keyring.toWrap(ref, 'wrap')
        await keyring.toWrap(ref, 'index')
        await keyring.toUnwrap(ref, [kek.record.id], 'read')
        uses += 2 * ROWS
      }
    await settled()
  }
  expect(uses).toBe(1_000_000)
  expect(kms.total).toEqual(promised(TENANTS, 2, ROUNDS, EVERY_MS))
  // Per pair of a tenant's KEKs (wrap and index) and refresh interval: one call per process and KEK.
  expect(Math.max(...kms.unwraps.values())).toBeLessThanOrEqual(20)
  expect(kms.unwraps.size).toBe(TENANTS * Math.ceil((ROUNDS * EVERY_MS) / REFRESH_MS))
  expect(keyStore.calls.insert).toBe(TENANTS * 2)
})

it('asks no more often with the ciphers: 10,000 reads and writes with tokens of 10 tenants in 10 processes', {
  timeout: 60_000,
}, async () => {
  const TENANTS = 10
  const ROUNDS = 10
  const EVERY_MS = 30_000
  const { clock, kms, processes, settled } = cluster()
  const hosts = processes.map((one) => {
    const host = attach(one, { name: 'test', ormVersion: '0' })
    return { fieldseal: one, host, map: host.defineModel(PATIENTS) }
  })
  let uses = 0
  for (let round = 0; round < ROUNDS; round++) {
    if (round > 0) clock.advance(EVERY_MS)
    for (const { fieldseal, host, map } of hosts)
      for (let t = 0; t < TENANTS; t++) {
        const tenant = `t${t}`
        const context = fieldseal.runAs({ tenant }, () => host.capture())
        const facts = map.facts({ clinic_id: tenant, id: ID }, context)
        const [email] = map.fields
        if (email === undefined) throw new Error('no field')
        const rows = Array.from(
          { length: 5 },
          (_, i): Row<unknown> => ({ map, facts, cells: [{ field: email, value: `${i}@x` }] }),
        )
        const sealed = await host.cipher.seal(rows, context)
        const stored = rows.map((row, i) => ({ ...row, cells: [{ field: email, value: sealed[i]?.envelopes[0] }] }))
        const opened = await host.cipher.open(stored, context)
        uses += sealed.length + opened.length
      }
    await settled()
  }
  expect(uses).toBe(10_000)
  expect(kms.total).toEqual(promised(TENANTS, 2, ROUNDS, EVERY_MS))
  expect(Math.max(...kms.unwraps.values())).toBeLessThanOrEqual(20)
})
