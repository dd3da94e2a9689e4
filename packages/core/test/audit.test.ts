import { inspect } from 'node:util'
import { expect, it } from 'vitest'
import { moveWraps, rotateKek } from '../src/attach.ts'
import type { AuditEvent } from '../src/observe/audit.ts'
import { clinic, ID, OTHER_ID } from './support/clinic.ts'
import { fakeCmk } from './support/fake-cmk.ts'

type Answer = (event: AuditEvent) => void | Promise<void>

/** A clinic with an audit trail in memory. */
function audited({ decrypts = false, ...options }: Parameters<typeof clinic>[0] & { decrypts?: boolean } = {}) {
  const trail: AuditEvent[] = []
  const sink: { answer: Answer; write: Answer } = {
    answer: () => undefined,
    write(event) {
      trail.push(event)
      return sink.answer(event)
    },
  }
  const world = clinic({ ...options, audit: decrypts ? { sink, decrypts } : sink })
  const ofType = <T extends AuditEvent['type']>(type: T) =>
    trail.filter((event): event is Extract<AuditEvent, { type: T }> => event.type === type)
  return { ...world, trail, sink, ofType }
}
const refuse = () => {
  throw Object.assign(new Error('full'), { code: 'ENOSPC' })
}
const REFUSED = expect.objectContaining({ code: 'ERR_AUDIT_UNAVAILABLE', kind: 'unavailable' })

it('tells of every call to a KMS: for whom, with which CMK, what came of it, and who asked', async () => {
  const cmk = fakeCmk('arn:1')
  cmk.before = (_operation, request) => request.answered?.({ requestId: 'r1' })
  const { fieldseal, host, map, rowOf, ofType } = audited({ cmk })
  const row = rowOf('a', { ssn: 'x' }, ID)
  await fieldseal.runAs({ tenant: 'a', actor: 'ada', purpose: 'billing' }, () =>
    host.cipher.seal([{ ...row, map }], host.capture()),
  )
  expect(ofType('kms')[0]).toEqual({
    type: 'kms',
    at: '2023-11-14T22:13:20.000Z',
    app: 'clinic',
    operation: 'wrap',
    provider: 'fake',
    uri: 'arn:1',
    credentialScope: 'test',
    tenant: 'a',
    keyspace: 'default',
    keyPurpose: 'wrap',
    kekId: expect.stringMatching(/^[0-9a-f]{24}$/),
    outcome: 'ok',
    attempts: 1,
    elapsedMs: 0,
    requestId: 'r1',
    actor: 'ada',
    purpose: 'billing',
  })
})

it('names the context that a query was made in, not the one that it runs in', async () => {
  const { fieldseal, host, rowOf, ofType } = audited()
  const captured = fieldseal.runAs({ tenant: 'a', actor: 'ada' }, () => host.capture())
  const row = rowOf('a', { ssn: 'x' }, ID)
  await fieldseal.runAs({ tenant: 'b', actor: 'bob' }, () => host.cipher.seal([row], captured))
  expect(new Set(ofType('kms').map(({ actor }) => actor))).toEqual(new Set(['ada']))
})

it('tells of each call that fails, with its code', async () => {
  const { seal, cmk, ofType } = audited()
  cmk.failure = 'ERR_KMS_KEY_DISABLED'
  await seal('a', { ssn: 'x' }).catch(() => undefined)
  expect(ofType('kms')).toMatchObject([{ operation: 'wrap', outcome: 'ERR_KMS_KEY_DISABLED' }])
  expect(ofType('access')).toMatchObject([{ operation: 'encrypt', outcome: 'ERR_KMS_KEY_DISABLED' }])
})

it('tells of a decryption only when asked to: tenant, field, row, KEK, actor and purpose', async () => {
  for (const decrypts of [false, true]) {
    const { seal, fieldseal, host, rowOf, ofType } = audited({ decrypts })
    const { envelopes, kekIds } = await seal('a', { ssn: 'x', email: 'ada@example.org' })
    const rows = [rowOf('a', { ssn: envelopes[0], email: envelopes[1], born: null }, ID)]
    await fieldseal.runAs({ tenant: 'a', actor: 'ada', purpose: 'care' }, () => host.cipher.open(rows, host.capture()))
    const common = { tenant: 'a', model: 'patients', row: `uuid:${ID}`, kekId: kekIds[0], outcome: 'ok' }
    const told = ['ssn', 'email'].map((field) => ({
      ...common,
      field,
      operation: 'decrypt',
      actor: 'ada',
      purpose: 'care',
    }))
    expect(ofType('access')).toMatchObject(decrypts ? told : [])
  }
})

it('always tells of denials: a revoked key, an altered value, a row of another tenant, a look-up', async () => {
  const { seal, open, host, fieldseal, map, cmk, clock, as, rowOf, ofType } = audited()
  const { envelopes } = await seal('a', { ssn: 'x' })
  await open('a', { ssn: envelopes[0] }, OTHER_ID).catch(() => undefined)
  expect(ofType('access').splice(0)).toMatchObject([
    { operation: 'decrypt', field: 'ssn', row: `uuid:${OTHER_ID}`, outcome: 'ERR_DECRYPT_FAILED' },
  ])
  const foreign = rowOf('b', { ssn: envelopes[0] }, ID)
  await as('a', () => host.cipher.open([foreign], host.capture())).catch(() => undefined)
  expect(() => as('a', () => map.facts({ clinic_id: 'b' }, host.capture()))).toThrow()
  expect(ofType('access').slice(1)).toMatchObject([
    { operation: 'decrypt', outcome: 'ERR_TENANT_MISMATCH' },
    { operation: 'decrypt', outcome: 'ERR_TENANT_MISMATCH' },
  ])
  cmk.failure = 'ERR_KMS_ACCESS_DENIED'
  clock.advance(900_000)
  fieldseal.purge('a')
  await open('a', { ssn: envelopes[0] }).catch(() => undefined)
  const [index] = map.indexes
  if (index === undefined) throw new Error('no index')
  await as('a', () => host.cipher.tokens([{ index, values: ['x'] }], host.capture())).catch(() => undefined)
  expect(ofType('access').slice(3)).toMatchObject([
    { operation: 'decrypt', outcome: 'ERR_KMS_ACCESS_DENIED', kekId: expect.any(String) },
    { operation: 'look-up', outcome: 'ERR_KMS_ACCESS_DENIED' },
  ])
})

it('tells of a tenant that tries to run as another, by whom and as whom', () => {
  const { fieldseal, ofType } = audited()
  fieldseal.runAs({ tenant: 'a', actor: 'ada' }, () =>
    expect(() => fieldseal.runAs({ tenant: 'b' }, () => 1)).toThrow(
      expect.objectContaining({ code: 'ERR_TENANT_MISMATCH' }),
    ),
  )
  expect(ofType('access')).toMatchObject([
    { operation: 'run-as', tenant: 'a', actor: 'ada', outcome: 'ERR_TENANT_MISMATCH' },
  ])
})

it('tells of each value that is marked instead of given out', async () => {
  const { seal, fieldseal, host, rowOf, ofType } = audited({ decrypts: true })
  const { envelopes } = await seal('a', { ssn: 'x', email: 'ada@example.org' })
  const rows = [rowOf('a', { ssn: envelopes[1], email: envelopes[1] }, ID)]
  await fieldseal.runAs({ tenant: 'a', onUnreadable: 'mark' }, () => host.cipher.open(rows, host.capture()))
  expect(ofType('access').map(({ field, outcome }) => [field, outcome])).toEqual([
    ['ssn', 'ERR_DECRYPT_FAILED'],
    ['email', 'ok'],
  ])
})

it('goes on reading and writing while the sink fails, and says so', async () => {
  const { seal, open, sink, events } = audited({ decrypts: true })
  sink.answer = refuse
  const { envelopes } = await seal('a', { ssn: 'x' })
  expect((await open('a', { ssn: envelopes[0] })).values).toEqual(['x'])
  expect(events('audit.failed').at(-1)).toEqual({ failures: events('audit.failed').length, code: 'ENOSPC' })
})

it('runs nothing as system that a synchronous sink did not take', () => {
  const { fieldseal, sink, ofType, events } = audited()
  sink.answer = refuse
  let ran = false
  expect(() => fieldseal.runAsSystem({ reason: 'nightly' }, () => (ran = true))).toThrow(REFUSED)
  expect([ran, events('system.entered').length]).toEqual([false, 0])
  sink.answer = () => undefined
  expect(fieldseal.runAsSystem({ reason: 'nightly', actor: 'job' }, () => 7)).toBe(7)
  expect(ofType('act').at(-1)).toMatchObject({ operation: 'run-as-system', systemReason: 'nightly', actor: 'job' })
})

it('uses no key as system before a sink that answers later has taken the entry, and none when it refuses', async () => {
  const { fieldseal, seal, host, rowOf, map, sink, keyStore, cmk } = audited()
  const { envelopes } = await seal('a', { ssn: 'x' })
  const row = rowOf('a', { ssn: envelopes[0] }, ID)
  fieldseal.purge('a')
  const calls = () => [keyStore.calls.length, cmk.calls.length]
  const before = calls()
  const [index] = map.indexes
  if (index === undefined) throw new Error('no index')

  const gate = Promise.withResolvers<void>()
  sink.answer = () => gate.promise
  const work = fieldseal.runAsSystem({ reason: 'nightly' }, () => host.cipher.open([row], host.capture()))
  await new Promise((resolve) => setTimeout(resolve, 5))
  expect(calls()).toEqual(before)
  gate.resolve()
  expect((await work)[0]?.values).toEqual(['x'])

  fieldseal.purge('a')
  const after = calls()
  sink.answer = ({ type }) => (type === 'act' ? Promise.reject(new Error('no')) : undefined)
  const inside = (fn: () => Promise<unknown>) => fieldseal.runAsSystem({ reason: 'nightly' }, fn)
  const attempts = [
    () => host.cipher.open([row], host.capture()),
    () => host.cipher.seal([row], host.capture()),
    () => host.cipher.tokens([{ index, values: ['x'] }], host.capture()),
    () => fieldseal.runAs({ tenant: 'a' }, () => host.cipher.open([row], host.capture())),
    () => fieldseal.runAs({ tenant: 'a' }, () => host.load([map], host.capture())),
    () => {
      sink.answer = () => Promise.resolve() // the entry of the outer one is still missing
      return fieldseal.runAsSystem({ reason: 'inner' }, () => host.cipher.open([row], host.capture()))
    },
  ]
  for (const attempt of attempts) await expect(inside(attempt)).rejects.toEqual(REFUSED)
  expect(calls()).toEqual(after)
})

it('keeps the reason of a system context inside runAs', async () => {
  const { fieldseal, host, rowOf, ofType } = audited()
  const row = rowOf('a', { ssn: 'x' }, ID)
  await fieldseal.runAsSystem({ reason: 'nightly' }, () =>
    fieldseal.runAs({ tenant: 'a' }, () => host.cipher.seal([row], host.capture())),
  )
  expect(ofType('kms')[0]).toMatchObject({ systemReason: 'nightly', tenant: 'a' })
})

it('rotates and moves nothing that the sink did not take, and tells how it ended', async () => {
  const { fieldseal, seal, sink, cmk, keyStore, ofType } = audited()
  await seal('a', { ssn: 'x' })
  const before = [...keyStore.rows.values()]
  cmk.calls.length = 0
  for (const answer of [refuse, () => Promise.reject(new Error('no'))]) {
    sink.answer = answer
    await expect(rotateKek(fieldseal, { tenant: 'a' })).rejects.toEqual(REFUSED)
    await expect(moveWraps(fieldseal, { tenant: 'a' })).rejects.toEqual(REFUSED)
  }
  expect([...keyStore.rows.values()]).toEqual(before)
  expect(cmk.calls).toEqual([])
  sink.answer = () => undefined
  await rotateKek(fieldseal, { tenant: 'a' })
  cmk.failure = 'ERR_KMS_ACCESS_DENIED'
  await rotateKek(fieldseal, { tenant: 'a' }).catch(() => undefined)
  expect(
    ofType('act')
      .slice(4)
      .map(({ operation, outcome }) => `${operation} ${outcome}`),
  ).toEqual(['rotate-kek begun', 'rotate-kek ok', 'rotate-kek begun', 'rotate-kek ERR_KMS_ACCESS_DENIED'])
})

it('attributes a lazy rewrap to nobody', async () => {
  const { fieldseal, seal, host, rowOf, ofType, map } = audited()
  const { envelopes } = await seal('a', { ssn: 'x' })
  const [before] = envelopes
  if (!before) throw new Error('nothing sealed')
  await rotateKek(fieldseal, { tenant: 'a' })
  fieldseal.purge('a')
  const from = ofType('kms').length
  const row = { ...rowOf('a', { ssn: before }, ID), map } as Parameters<typeof host.rewraps.offer>[0]
  await fieldseal.runAs({ tenant: 'a', actor: 'ada' }, async () => {
    host.rewraps.offer(row, 'key', { compareAndSet: async (_map, patches) => patches.map(() => 'updated') })
    await fieldseal.flush()
  })
  const calls = ofType('kms').slice(from)
  expect(calls.length).toBeGreaterThan(0)
  for (const { actor } of calls) expect(actor).toBeUndefined()
})

it('holds no value, key, token, nonce or wrapped key', async () => {
  const world = audited({ decrypts: true })
  const sealed = await world.seal('a', { ssn: 'CANARY-078', email: 'canary@example.org' })
  await world.open('a', { ssn: sealed.envelopes[0], email: sealed.envelopes[1] })
  await world.open('a', { ssn: 'fs.CANARY' }).catch(() => undefined)
  await world.seal('a', { ssn: 7 as never }).catch(() => undefined)
  await rotateKek(world.fieldseal, { tenant: 'a' })
  const text = inspect(world.trail, { depth: 9 }) + JSON.stringify(world.trail)
  expect(text).not.toMatch(/canary/i)
  const secrets = [
    ...sealed.envelopes.map((envelope) => Buffer.from(envelope ?? [])),
    ...[...sealed.tokens.values()].flat(2).map((token) => Buffer.from(token)),
    ...world.keyStore.keks().flatMap(({ wraps }) => wraps.map(({ blob }) => Buffer.from(blob))),
    ...world.cmk.given.filter(({ disposed }) => !disposed).map((key) => Buffer.from(key.exposeBytes())),
  ]
  for (const secret of secrets) {
    // 12 bytes of it anywhere: an envelope holds the KEK id, which is none.
    const part = secret.subarray(-12)
    expect(text).not.toContain(part.toString('hex'))
    expect(text).not.toContain(part.toString('base64url'))
  }
})

it('closes the sink with the Fieldseal, after the last event', async () => {
  const order: string[] = []
  const world = clinic({
    audit: { write: ({ type }) => void order.push(type), close: () => void order.push('closed') },
  })
  await world.seal('a', { ssn: 'x' })
  await world.fieldseal.close()
  expect(order.at(-1)).toBe('closed')
})
