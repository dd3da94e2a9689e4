import type { Report } from '@fieldseal/migrate'
import { hasPostgres } from '@fieldseal/servers/vitest'
import { describe, expect, it } from 'vitest'
import { refused, type Told } from './support/told.ts'
import { openWard, readable, ROWS, TENANT, type Ward } from './support/ward.ts'

const REWRAP = ['rewrap', '--batch', '5', '--concurrency', '2']
const DONE = {
  remaining: 0,
  models: [
    { rows: ROWS, failed: 0 },
    { rows: 6, failed: 0 },
  ],
}

/** A rewrap that was killed in its middle. */
async function interrupted(ward: Ward): Promise<void> {
  await ward.migrator.rotateKek({ tenant: TENANT })
  const { child, ended } = ward.start(...REWRAP)
  ward.wire.strike(6, 'after', () => child.kill('SIGKILL') && ended)
  expect((await ended).code).toBeNull()
}

interface StoredRecord {
  purpose?: string
  version?: number
  state?: string
  role?: string
  index?: string
  mac: string
  keyspace?: string
  wraps?: { blob: string }[]
}

/** The key store as somebody with a database client sees it. */
async function byHand({ query }: Ward) {
  const rows = (await query('SELECT id, record FROM fieldseal_keys')) as { id: string; record: string }[]
  const idOf = (is: (record: StoredRecord) => boolean) =>
    rows.find(({ record }) => is(JSON.parse(record) as StoredRecord))?.id ?? expect.unreachable()
  const kek = (version: number) =>
    idOf((record) => record.purpose === 'wrap' && record.version === version && record.keyspace === 'default')
  const put = (id: string, record: string) => query('UPDATE fieldseal_keys SET record = $2 WHERE id = $1', [id, record])
  const textOf = (id: string) => rows.find((row) => row.id === id)?.record ?? expect.unreachable()
  const edit = (id: string, change: (record: StoredRecord) => void) => {
    const record = JSON.parse(textOf(id)) as StoredRecord
    change(record)
    return put(id, JSON.stringify(record))
  }
  await query('CREATE TABLE IF NOT EXISTS kept AS SELECT * FROM fieldseal_keys')
  return {
    old: kek(1),
    get newest() {
      return kek(2)
    },
    index: idOf(({ index }) => index === 'email'),
    wrapsOf: (id: string) => (JSON.parse(textOf(id)) as StoredRecord).wraps ?? [],
    edit,
    put,
    cut: (id: string) => put(id, textOf(id).slice(0, 200)),
    remove: (id: string) => query('DELETE FROM fieldseal_keys WHERE id = $1', [id]),
    async restore() {
      await query('DELETE FROM fieldseal_keys')
      await query('INSERT INTO fieldseal_keys SELECT * FROM kept')
    },
  }
}

/** The fifth byte from the end: the last characters of base64url may not hold a whole one. */
function flipped(text: string): string {
  const bytes = Buffer.from(text, 'base64url')
  bytes[bytes.length - 5] = (bytes[bytes.length - 5] ?? 0) ^ 1
  return bytes.toString('base64url')
}

describe.runIf(hasPostgres())('wrong input', { timeout: 90_000 }, () => {
  it('a tenant that nobody knows is refused by every verb that names one, exit 2', async (context) => {
    const ward = await openWard(context, { rows: 3, state: 'migrating' })
    const tenant = 'clinic-8'
    const slip = {
      code: 'ERR_ARGUMENT_INVALID',
      details: { field: 'tenant', hint: expect.stringMatching(/spelling/) },
    }
    const { migrator } = ward
    for (const verb of [
      () => migrator.rewrap({ tenant }),
      () => migrator.verify({ tenant }),
      () => migrator.rebind({ tenant }),
      () => migrator.reindex({ tenant }),
      () => migrator.backfill({ tenant }),
      () => migrator.rotateKek({ tenant }),
      () => migrator.rotateCmk({ tenant }),
      () => migrator.status({ tenant }),
      () => migrator.plan('move', { tenant }),
      () => migrator.plan('shred', { tenant }),
    ])
      await expect(verb(), String(verb)).rejects.toMatchObject(slip)
    expect(await refused(ward, 2, ['backfill', '--tenant', tenant])).toMatchObject(slip)
    await ward.deploy({ state: 'plaintext' })
    const decrypted = ward.migrator.decrypt({ tenant, model: 'patients', field: 'ssn' })
    await expect(decrypted).rejects.toMatchObject(slip)
    const doctor = await ward.run('doctor', '--tenant', tenant)
    expect(doctor).toMatchObject({
      code: 3,
      stdout: expect.stringMatching(/clinic-8: .*no key of this tenant\n.*spelling/),
    })
    await readable(ward)
  })

  it('another configuration than the checkpoint’s is refused, exit 4, and the right one goes on', async (context) => {
    const ward = await openWard(context)
    await interrupted(ward)
    await ward.deploy({ bindRow: 'never' })
    expect(await refused(ward, 4, REWRAP)).toMatchObject({
      code: 'ERR_CHECKPOINT_MISMATCH',
      details: { hint: expect.stringMatching(/put the configuration back.*--restart/) },
    })
    await ward.deploy({ bindRow: 'when-known' })
    expect(await ward.json<Report>(...REWRAP)).toMatchObject({ resumed: true, ...DONE })
    await readable(ward)
  })

  it('a key store edited by hand stops the verb with the record and what to do, and the same command goes on', async (context) => {
    const ward = await openWard(context)
    await interrupted(ward)
    const store = await byHand(ward)
    const edits: readonly (readonly [string, string, () => Promise<unknown>])[] = [
      [
        'a flipped byte of a MAC',
        'ERR_KEY_RECORD_INVALID',
        () => store.edit(store.newest, (it) => (it.mac = flipped(it.mac))),
      ],
      ['another state', 'ERR_KEY_RECORD_INVALID', () => store.edit(store.old, (it) => (it.state = 'active'))],
      ['a record cut off', 'ERR_KEY_RECORD_INVALID', () => store.cut(store.old)],
      [
        'a flipped byte of a wrap',
        'ERR_KMS_CIPHERTEXT_OR_CONTEXT_INVALID',
        () => store.edit(store.newest, ({ wraps: [wrap] = [] }) => wrap && (wrap.blob = flipped(wrap.blob))),
      ],
      [
        'the wraps of two keys swapped',
        'ERR_KMS_CIPHERTEXT_OR_CONTEXT_INVALID',
        async () => {
          const [old, newest] = [store.wrapsOf(store.old), store.wrapsOf(store.newest)]
          await store.edit(store.old, (it) => (it.wraps = newest))
          await store.edit(store.newest, (it) => (it.wraps = old))
        },
      ],
    ]
    for (const [name, expected, edit] of edits) {
      await edit()
      // Either the verb cannot begin, or it leaves the rows alone that need the key.
      const { code, stdout } = await ward.run(...REWRAP, '--json')
      const { error, report } = JSON.parse(stdout) as Told
      if (code === 1) expect(error.code, name).toBe(expected)
      else expect([code, report?.models[0]?.failures[0]?.code], name).toEqual([3, expected])
      expect(error.details['hint'], name).toMatch(/(restore|bring) .*(run the same command|run it) again/)
      await store.restore()
    }
    expect(await ward.json<Report>(...REWRAP)).toMatchObject(DONE)
    await readable(ward)
    expect(await ward.json<Report>('verify')).toMatchObject(DONE)
  })

  it('a key record that was deleted leaves the rows that need it, exit 3, and the same command does them when it is back', async (context) => {
    const ward = await openWard(context)
    await interrupted(ward)
    const store = await byHand(ward)
    await store.remove(store.old)
    const { code, stdout } = await ward.run(...REWRAP, '--model', 'patients', '--json')
    expect(code, stdout).toBe(3)
    const { error, report } = JSON.parse(stdout) as { error: object; report: Report }
    expect(error).toMatchObject({ details: { hint: expect.stringMatching(/KEY_NOT_FOUND.*bring its key back/) } })
    const [patients] = report.models
    expect(patients?.failed).toBeGreaterThan(0)
    expect(patients?.failed).toBe(patients?.remaining)
    await store.restore()
    expect(await ward.json<Report>(...REWRAP, '--model', 'patients')).toMatchObject({
      remaining: 0,
      models: [{ rows: ROWS }],
    })
    expect(await ward.json<Report>(...REWRAP)).toMatchObject({ resumed: true, ...DONE })
    await readable(ward)
  })

  it('another role in an index record is told by verify and reindex, and nothing is found by it', async (context) => {
    const ward = await openWard(context)
    const store = await byHand(ward)
    for (const role of ['next', 'old']) {
      await store.edit(store.index, (it) => (it.role = role))
      const { code, stdout } = await ward.run('verify', '--model', 'patients', '--json')
      expect(code, stdout).toBe(3)
      expect(JSON.parse(stdout)).toMatchObject({ report: { models: [{ failed: ROWS }] } })
      expect(await refused(ward, 4, ['reindex', '--tenant', TENANT, '--model', 'patients', '--new-key'])).toMatchObject(
        {
          code: 'ERR_INDEX_UNKNOWN',
          details: { hint: expect.stringMatching(/restore .*same command again/) },
        },
      )
      await store.restore()
    }
    expect(await ward.json('verify', '--model', 'patients')).toMatchObject({
      remaining: 0,
      models: [{ unchanged: ROWS }],
    })
    await readable(ward)
  })
})
