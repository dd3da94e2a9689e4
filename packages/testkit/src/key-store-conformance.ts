import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import type { KekRecord, KeyStore, KeyStoreRecord, RecordId } from '@fieldseal/core/adapter'
import type { TestRunner } from './test-runner.ts'

export interface KeyStoresUnderTest {
  readonly store: KeyStore
  /** A second store on the same data, as another process has it. */
  readonly second: KeyStore
  close?(): Promise<void>
}

export interface KeyStoreConformanceOptions extends TestRunner {
  /** Both empty. */
  create(): Promise<KeyStoresUnderTest>
}

/** What every place for key records must do. */
export function keyStoreConformance({ create, describe, it }: KeyStoreConformanceOptions): void {
  const each = (name: string, body: (stores: KeyStoresUnderTest) => Promise<void>) =>
    it(name, async () => {
      const stores = await create()
      try {
        await body(stores)
      } finally {
        await stores.close?.()
      }
    })

  describe('key store conformance', () => {
    each('returns a record as it was inserted, to another process too', async ({ store, second }) => {
      const record = kek({ tenant: 'Krankenhaus Süd 🏥' })
      assert.equal(await store.insert(record), 'inserted')
      for (const reader of [store, second]) {
        assert.deepEqual(plain(await reader.find([record.id])), plain([record]))
        assert.deepEqual(plain(await reader.load([refOf(record)])), plain([record]))
      }
    })

    each('leaves out unknown ids and other tenants, keyspaces and applications', async ({ store }) => {
      const record = kek()
      await store.insert(record)
      await store.insert(kek({ tenant: 'b' }))
      await store.insert(kek({ keyspace: 'class:payment' }))
      await store.insert(kek({ app: 'other' }))
      assert.deepEqual(await store.find([id()]), [])
      assert.deepEqual(plain(await store.load([refOf(record)])), plain([record]))
    })

    each('keeps the first of two records for the same slot', async ({ store, second }) => {
      const outcomes = await Promise.all(
        Array.from({ length: 10 }, (_unused, i) => (i % 2 === 0 ? store : second).insert(kek())),
      )
      assert.equal(outcomes.filter((outcome) => outcome === 'inserted').length, 1)
      assert.equal((await store.load([refOf(kek())])).length, 1)
    })

    each('refuses a second record with the same id', async ({ store }) => {
      const record = kek()
      assert.equal(await store.insert(record), 'inserted')
      assert.equal(await store.insert({ ...kek({ version: 2 }), id: record.id }), 'exists')
    })

    each('lets one of two updates of the same row version win', async ({ store, second }) => {
      const record = kek()
      await store.insert(record)
      const outcomes = await Promise.all(
        [store, second].map((writer, i) => writer.update({ ...record, revision: 2 + i, rowVersion: 2 })),
      )
      assert.deepEqual([...outcomes].sort(), ['changed', 'updated'])
      assert.equal((await store.find([record.id]))[0]?.rowVersion, 2)
    })

    each('changes nothing when the row version is not the next one, or the record is gone', async ({ store }) => {
      const record = kek()
      await store.insert(record)
      assert.equal(await store.update({ ...record, rowVersion: 3 }), 'changed')
      assert.equal(await store.update({ ...record, rowVersion: 1 }), 'changed')
      assert.equal(await store.update({ ...kek({ version: 9 }), rowVersion: 2 }), 'changed')
      assert.deepEqual(plain(await store.find([record.id])), plain([record]))
    })

    each('lists by tenant and by CMK, tombstones too', async ({ store }) => {
      const destroyed: KekRecord = { ...kek({ version: 2 }), state: 'destroyed', wraps: [] }
      const other = kek({ tenant: 'b', uri: 'cmk-2' })
      for (const record of [kek(), destroyed, other]) await store.insert(record)
      const idsOf = async (filter: Parameters<KeyStore['list']>[0]) => {
        const ids: string[] = []
        for await (const record of store.list(filter)) ids.push(record.id)
        return ids.sort()
      }
      assert.equal((await idsOf({ app: 'conformance' })).length, 3)
      assert.equal((await idsOf({ app: 'conformance', tenant: 'a' })).length, 2)
      assert.deepEqual(await idsOf({ app: 'conformance', cmk: 'cmk-2' }), [other.id])
    })
  })
}

function kek(
  facts: { tenant?: string; keyspace?: string; app?: string; version?: number; uri?: string } = {},
): KekRecord {
  return {
    id: id(),
    kind: 'kek',
    app: facts.app ?? 'conformance',
    tenant: facts.tenant ?? 'a',
    keyspace: facts.keyspace ?? 'default',
    purpose: 'wrap',
    version: facts.version ?? 1,
    revision: 1,
    state: 'active',
    createdAt: 1_767_225_600_000,
    compromised: false,
    mac: randomBytes(32),
    wraps: [
      {
        provider: 'fake',
        uri: facts.uri ?? 'cmk-1',
        blob: randomBytes(300),
        versionEvidence: 'unknown',
        wrappedAt: 1_767_225_600_000,
      },
    ],
    rowVersion: 1,
  }
}

function id(): RecordId {
  return randomBytes(12).toString('hex') as RecordId // the form of a record id
}

function refOf({ app, tenant, keyspace }: KekRecord) {
  return { app, tenant, keyspace }
}

/** Buffers and plain byte arrays alike as hex. */
function plain(records: readonly KeyStoreRecord[]): unknown {
  return JSON.parse(
    JSON.stringify(records, function (this: Record<string, unknown>, key) {
      const value = this[key]
      return value instanceof Uint8Array ? Buffer.from(value).toString('hex') : value
    }),
  )
}
