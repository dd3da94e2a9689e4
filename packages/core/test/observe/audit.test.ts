import fc from 'fast-check'
import { expect, it, vi } from 'vitest'
import { type AuditEntry, type AuditEvent, type AuditSink, createAudit } from '../../src/observe/audit.ts'
import { createEventBus, type FieldsealEvents } from '../../src/observe/events.ts'

const ENTRY: AuditEntry = { type: 'act', operation: 'rotate-kek', tenant: 'a', outcome: 'begun' }
const REFUSED = expect.objectContaining({ code: 'ERR_AUDIT_UNAVAILABLE', kind: 'unavailable' })

function world(sink: AuditSink) {
  const events = createEventBus()
  const failures: FieldsealEvents['audit.failed'][] = []
  events.on('audit.failed', (event) => failures.push(event))
  const audit = createAudit(sink, { app: 'clinic', now: () => 0, events, whoAsks: () => ({ actor: 'ada' }) })
  return { audit, events, failures }
}
const settled = () => new Promise((resolve) => setImmediate(resolve))

it('stamps every event with the time, the application and who asked', () => {
  const written: AuditEvent[] = []
  const { audit } = world({ write: (event) => void written.push(event) })
  audit.note(ENTRY)
  expect(written).toEqual([{ ...ENTRY, at: '1970-01-01T00:00:00.000Z', app: 'clinic', actor: 'ada' }])
})

it('goes on when the sink fails at once or later, and counts and signals each failure', async () => {
  const enospc = Object.assign(new Error('no space for SECRET'), { code: 'ENOSPC' })
  const answers = [
    () => {
      throw enospc
    },
    () => Promise.reject(enospc),
    () => undefined,
    () => Promise.reject(new Error('SECRET')),
  ]
  const { audit, failures } = world({ write: () => answers.shift()?.() })
  for (let i = 0; i < 4; i++) audit.note(ENTRY)
  await settled()
  expect(failures).toEqual([
    { failures: 1, code: 'ENOSPC' },
    { failures: 2, code: 'ENOSPC' },
    { failures: 3, code: 'unclassified' },
  ])
  expect(audit.failures).toBe(3)
})

it('refuses a privileged act before it begins, whether the sink fails at once or later', async () => {
  for (const write of [
    () => {
      throw new Error('disk SECRET')
    },
    () => Promise.reject(new Error('disk SECRET')),
  ]) {
    const { audit, failures } = world({ write })
    let begun = false
    const acted = audit.act({ operation: 'rotate-kek' }, async () => (begun = true))
    await expect(acted).rejects.toEqual(REFUSED)
    expect([begun, failures.length]).toEqual([false, 1])
    expect(String(await acted.catch((error: unknown) => error))).not.toContain('SECRET')
  }
})

it('waits for a sink that answers later before an act begins', async () => {
  const gate = Promise.withResolvers<void>()
  const order: string[] = []
  const { audit } = world({
    write: ({ type }) => (type === 'act' && order.push('asked') === 1 ? gate.promise : undefined),
  })
  const acted = audit.act({ operation: 'move-wraps' }, async () => order.push('acted'))
  await settled()
  order.push('taken')
  gate.resolve()
  await acted
  expect(order.slice(0, 3)).toEqual(['asked', 'taken', 'acted'])
})

it('refuses an act when the sink does not answer for ten seconds, instead of holding it', async () => {
  vi.useFakeTimers()
  try {
    const { audit, failures } = world({ write: () => new Promise(() => undefined) })
    let begun = false
    const acted = audit.act({ operation: 'rotate-kek' }, async () => (begun = true)).catch((error: unknown) => error)
    await vi.advanceTimersByTimeAsync(9_999)
    expect(failures).toEqual([])
    await vi.advanceTimersByTimeAsync(1)
    expect(await acted).toEqual(REFUSED)
    expect([begun, failures.length]).toEqual([false, 1])
  } finally {
    vi.useRealTimers()
  }
})

it('tells how an act ended', async () => {
  const outcomes: unknown[] = []
  const { audit } = world({ write: (event) => void outcomes.push(event.outcome) })
  await audit.act({ operation: 'activate', tenant: 'a' }, async () => 7)
  await audit
    .act({ operation: 'activate', tenant: 'a' }, async () => {
      throw new Error('own')
    })
    .catch(() => undefined)
  expect(outcomes).toEqual(['begun', 'ok', 'begun', 'unclassified'])
})

it('writes one event per call to a KMS', () => {
  const written: AuditEvent[] = []
  const { events } = world({ write: (event) => void written.push(event) })
  events.emit('kms.call', {
    operation: 'unwrap',
    provider: 'aws-kms',
    uri: 'arn',
    credentialScope: 's',
    tenant: 'a',
    keyspace: 'default',
    keyPurpose: 'wrap',
    kekId: '00',
    outcome: 'ok',
    attempts: 1,
    elapsedMs: 3,
    requestId: 'r1',
  })
  expect(written).toMatchObject([{ type: 'kms', operation: 'unwrap', uri: 'arn', requestId: 'r1', actor: 'ada' }])
})

it('never lets more than ten thousand entries wait for a sink, and loses none without a word', async () => {
  const gate = Promise.withResolvers<void>()
  let taken = 0
  const { audit, failures } = world({
    write() {
      taken++
      return gate.promise
    },
  })
  for (let i = 0; i < 10_005; i++) audit.note(ENTRY)
  expect([taken, failures.length]).toEqual([10_000, 5])
  expect(() => audit.admit(ENTRY)).toThrow(REFUSED)
  gate.resolve()
  await audit.close()
  audit.note(ENTRY)
  expect(taken).toBe(10_001)
})

it('closes the sink after the last entry', async () => {
  const order: string[] = []
  const { audit } = world({
    write: () => settled().then(() => void order.push('written')),
    close: () => void order.push('closed'),
  })
  audit.note(ENTRY)
  await audit.close()
  expect(order).toEqual(['written', 'closed'])
})

it('gives each entry to the sink or counts it, whatever the sink does', async () => {
  const deed = fc.constantFrom('ok', 'throws', 'rejects', 'later')
  await fc.assert(
    fc.asyncProperty(fc.array(deed, { maxLength: 30 }), async (deeds) => {
      let at = 0
      let taken = 0
      const { audit } = world({
        async write() {
          const what = deeds[at++]
          if (what === 'throws' || what === 'rejects') throw new Error(what)
          if (what === 'later') await settled()
          taken++
        },
      })
      for (const _deed of deeds) audit.note(ENTRY)
      await audit.close()
      await settled()
      expect(taken + audit.failures).toBe(deeds.length)
    }),
  )
})

it('refuses what is no sink', () => {
  const settings = { app: 'clinic', now: () => 0, events: createEventBus(), whoAsks: () => ({}) }
  for (const wrong of [null, {}, 'file', { write: 7 }, { sink: {} }, { sink: { write: () => undefined }, decrypts: 1 }])
    expect(() => createAudit(wrong as never, settings)).toThrow(
      expect.objectContaining({ code: 'ERR_CONFIG_INVALID', details: expect.objectContaining({ field: 'audit' }) }),
    )
})
