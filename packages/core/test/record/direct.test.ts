import fc from 'fast-check'
import { expect, it } from 'vitest'
import { parseEnvelope } from '../../src/envelope/parse.ts'
import { directWrapOf } from '../../src/field/direct-value.ts'
import { kmsError } from '../../src/kms.ts'
import { isUnreadable } from '../../src/record/unreadable.ts'
import { ID, NOTES, OTHER_ID } from '../support/clinic.ts'
import { directCalls, directClinic, directPatients, redeployed, rowIds } from '../support/direct.ts'
import { fakeCmk } from '../support/fake-cmk.ts'

const VALUES = { ssn: '078-05-1120', email: 'ada@example.org', born: new Date(0) }
const bytes = (envelope: unknown) => Buffer.from((envelope ?? []) as Uint8Array)

it('seals the values of a row under one DEK that the CMK wraps itself, and reads them back', async () => {
  const { seal, open, cmk, keyStore, events } = directClinic()
  const { envelopes, kekIds, tokens } = await seal('a', VALUES)
  expect(directCalls(cmk)).toEqual(['wrap'])
  const [record] = keyStore.records().filter(({ kind }) => kind === 'direct')
  expect(record).toMatchObject({ tenant: 'a', keyspace: 'default', provider: 'fake', uri: 'one', rowVersion: 1 })
  expect(kekIds).toEqual([record?.id])
  expect(events('direct-key.created')).toEqual([
    { tenant: 'a', keyspace: 'default', kekId: record?.id, provider: 'fake', uri: 'one' },
  ])
  for (const envelope of envelopes) {
    expect(parseEnvelope(bytes(envelope))).toMatchObject({ layout: 'direct', rowBound: true })
    expect(directWrapOf(bytes(envelope))).toEqual(directWrapOf(bytes(envelopes[0])))
    expect(directWrapOf(bytes(envelope)).label).toBe('1')
  }
  expect([...tokens.values()][0]?.[0]).toHaveLength(1)
  const stored = { ssn: envelopes[0], email: envelopes[1], born: envelopes[2] }
  expect((await open('a', stored)).values).toEqual(Object.values(VALUES))
  expect(directCalls(cmk)).toEqual(['wrap', 'unwrap'])
})

it('tells the KMS eight facts, the row’s key in readable form among them', async () => {
  const { seal, cmk } = directClinic()
  const { kekIds } = await seal('a', { ssn: 'x' })
  expect(cmk.calls.at(-1)?.context).toEqual({
    app: 'clinic',
    fieldseal: '1',
    tenant: 'a',
    keyspace: 'default',
    purpose: 'direct',
    kek: kekIds[0],
    model: 'patients',
    row: `uuid:${ID}`,
  })
})

it('lets the KMS make the DEK where it can, and gives each row and each write its own', async () => {
  const cmk = fakeCmk('one', { generates: true })
  const { sealRows, seal, openRows } = directClinic({ cmk })
  const ids = rowIds(3)
  const sealed = await sealRows(ids)
  await seal('a', { ssn: 'again' }, ids[0])
  expect(directCalls(cmk)).toEqual(['generate', 'generate', 'generate', 'generate'])
  expect(new Set(cmk.given.map((key) => key.disposed))).toEqual(new Set([true]))
  expect(new Set(sealed.map(({ envelopes }) => directWrapOf(bytes(envelopes[0])).blob.toString('hex'))).size).toBe(3)
  const opened = await openRows(ids.map((id, i) => [id, sealed[i]?.envelopes[0]]))
  expect(opened.map(({ values }) => values[0])).toEqual(ids.map((id) => `of ${id}`))
})

it('asks no KMS for a row without values, nor before every value was found to fit', async () => {
  const { seal, cmk } = directClinic()
  expect(await seal('a', { ssn: null, born: null })).toMatchObject({ envelopes: [null, null], kekIds: [] })
  await expect(seal('a', { ssn: 'x', born: 'no date' })).rejects.toMatchObject({ code: 'ERR_VALUE_INVALID' })
  expect(cmk.calls).toEqual([])
})

it('needs the row’s key, writing and reading', async () => {
  const { seal, open } = directClinic()
  const { envelopes } = await seal('a', { ssn: 'x' })
  const noId = '' // not a uuid: the row has no canonical key
  await expect(seal('a', { ssn: 'x' }, noId)).rejects.toMatchObject({ code: 'ERR_WRITE_UNSUPPORTED' })
  await expect(open('a', { ssn: envelopes[0] }, noId)).rejects.toMatchObject({ code: 'ERR_QUERY_UNSUPPORTED' })
})

it('opens nothing that was moved to another row, column, model or tenant, or altered anywhere', async () => {
  const world = directClinic()
  const { seal, open } = world
  const { envelopes } = await seal('a', { ssn: 'x', email: 'ada@example.org' })
  await seal('b', { ssn: 'y' })
  const corrupt = expect.objectContaining({ kind: 'corrupt' })
  const unchanged = { ssn: envelopes[0] }
  await expect(open('a', unchanged, OTHER_ID)).rejects.toEqual(corrupt)
  await expect(open('a', { email: envelopes[0] })).rejects.toEqual(corrupt)
  await expect(open('b', unchanged)).rejects.toEqual(corrupt)
  const other = redeployed(world, { cmk: world.cmk }, { ...directPatients(), id: 'others' })
  await expect(other.open('a', unchanged)).rejects.toEqual(corrupt)
  const whole = bytes(envelopes[0])
  const { label, blob } = directWrapOf(whole)
  for (let at = 0; at < whole.length; at++) {
    const altered = Buffer.from(whole)
    altered[at] = (altered[at] ?? 0) ^ 0x01
    const isLabel = at >= 53 && at < 53 + label.length
    if (isLabel)
      expect((await open('a', { ssn: altered })).values).toEqual(['x']) // a hint that nothing authenticates
    else await expect(open('a', { ssn: altered }), `byte ${at}`).rejects.toMatchObject({ kind: 'corrupt' })
  }
  expect(blob.length).toBeGreaterThan(0)
})

it('compares the commitment of every envelope, on cache hits too, and releases nothing before', async () => {
  const { seal, openRows } = directClinic()
  const { envelopes } = await seal('a', { ssn: 'x', email: 'ada@example.org' })
  expect((await openRows([[ID, envelopes[0]]]))[0]?.values).toEqual(['x']) // the DEK is cached now
  const forged = bytes(envelopes[0])
  forged[18] = (forged[18] ?? 0) ^ 0x01
  await expect(openRows([[ID, forged]])).rejects.toMatchObject({ code: 'ERR_DECRYPT_FAILED' })
  const [opened] = await openRows([[ID, forged]], 'mark')
  expect(isUnreadable(opened?.values[0])).toBe(true)
})

it('finds no cached DEK for a blob of the same row under another context, or another blob under the same', async () => {
  const { seal, open, cmk } = directClinic()
  const one = await seal('a', { ssn: 'one' })
  const two = await seal('a', { ssn: 'two' })
  await open('a', { ssn: one.envelopes[0] })
  const before = directCalls(cmk).length
  expect((await open('a', { ssn: two.envelopes[0] })).values).toEqual(['two'])
  expect(directCalls(cmk)).toHaveLength(before + 1)
  await open('a', { ssn: one.envelopes[0] }, OTHER_ID).catch(() => undefined)
  expect(directCalls(cmk), 'another row is another question').toHaveLength(before + 2)
})

it('refuses kek envelopes in a direct model and direct ones in a kek model, before any key is asked for, unless accepted', async () => {
  const direct = directClinic()
  const sealed = await direct.seal('a', { ssn: 'direct' })
  const kek = redeployed(direct, { cmk: direct.cmk }, directPatients({ mode: 'kek' }))
  const old = await kek.seal('a', { ssn: 'kek' })
  direct.cmk.calls.length = 0
  for (const [world, envelope] of [
    [direct, old.envelopes[0]],
    [redeployed(direct, { cmk: direct.cmk }, directPatients({ mode: 'kek' })), sealed.envelopes[0]],
  ] as const)
    await expect(world.open('a', { ssn: envelope })).rejects.toMatchObject({
      code: 'ERR_LAYOUT_REFUSED',
      kind: 'corrupt',
    })
  expect(direct.cmk.calls).toEqual([])

  const tolerant = redeployed(direct, { cmk: direct.cmk }, directPatients({ accepts: ['kek'] }))
  expect((await tolerant.open('a', { ssn: old.envelopes[0] })).values).toEqual(['kek'])
  const other = redeployed(direct, { cmk: direct.cmk }, directPatients({ mode: 'kek', accepts: ['direct'] }))
  expect((await other.open('a', { ssn: sealed.envelopes[0] })).values).toEqual(['direct'])
  expect(parseEnvelope(bytes((await tolerant.seal('a', { ssn: 'x' })).envelopes[0])).layout).toBe('direct')
})

it('refuses unbound kek envelopes in a direct model unless those are accepted as well', async () => {
  const kek = directClinic({}, directPatients({ mode: 'kek', bindRow: 'never' }))
  const { envelopes } = await kek.seal('a', { ssn: 'x' })
  const strict = redeployed(kek, { cmk: kek.cmk }, directPatients({ accepts: ['kek'] }))
  await expect(strict.open('a', { ssn: envelopes[0] })).rejects.toMatchObject({ code: 'ERR_LAYOUT_REFUSED' })
  const tolerant = redeployed(kek, { cmk: kek.cmk }, directPatients({ accepts: ['kek', 'unbound'] }))
  expect(await tolerant.open('a', { ssn: envelopes[0] })).toMatchObject({ values: ['x'], outdated: [] })
})

it('unwraps with a former CMK, wraps with the first current one, and asks no other', async () => {
  const [old, one, two] = [fakeCmk('old'), fakeCmk('one'), fakeCmk('two')]
  const before = directClinic({ cmk: old })
  const sealed = await before.seal('a', { ssn: 'x' })
  const after = redeployed(before, { cmk: one, keys: { cmks: [one, two], formerCmks: [old] } })
  old.calls.length = 0
  expect((await after.open('a', { ssn: sealed.envelopes[0] })).values).toEqual(['x'])
  await after.seal('a', { ssn: 'y' })
  expect([old, one, two].map((cmk) => directCalls(cmk))).toEqual([['unwrap'], ['wrap'], []])
  old.failure = 'ERR_KMS_NETWORK'
  after.fieldseal.purge('a')
  await expect(after.open('a', { ssn: sealed.envelopes[0] })).rejects.toMatchObject({ kind: 'unavailable' })
  expect(directCalls(two), 'no fallback to another key, ever').toEqual([])
})

it('asks nobody about a record whose CMK is not configured', async () => {
  const before = directClinic()
  const { envelopes } = await before.seal('a', { ssn: 'x' })
  const stranger = fakeCmk('stranger')
  const after = redeployed(before, { cmk: stranger, keys: { cmks: [stranger] } })
  before.cmk.calls.length = 0
  await expect(after.open('a', { ssn: envelopes[0] })).rejects.toMatchObject({ code: 'ERR_KMS_CONFIG', kind: 'misuse' })
  expect([before.cmk.calls, stranger.calls]).toEqual([[], []])
})

it('obeys a denial in the key store and in the configuration, reading and writing, and drops the DEKs', async () => {
  for (const [denial, code] of [
    ['retired', 'ERR_KEY_RETIRED'],
    ['pending-destruction', 'ERR_KEY_ERASED'],
    ['destroyed', 'ERR_KEY_ERASED'],
  ] as const) {
    const { seal, open, keyStore, clock, cmk } = directClinic()
    const { envelopes, kekIds } = await seal('a', { ssn: 'x' })
    await open('a', { ssn: envelopes[0] })
    keyStore.tamper(kekIds[0] as never, { denial })
    clock.advance(60_000)
    await open('a', { ssn: envelopes[0] }).catch(() => undefined)
    await new Promise((resolve) => setImmediate(resolve))
    await expect(open('a', { ssn: envelopes[0] })).rejects.toMatchObject({ code })
    await expect(seal('a', { ssn: 'y' })).rejects.toMatchObject({ code })
    expect(cmk.given.every(({ disposed }) => disposed)).toBe(true)
  }
  const world = directClinic()
  const { envelopes, kekIds } = await world.seal('a', { ssn: 'x' })
  const denied = redeployed(world, { cmk: world.cmk, deniedKeks: [...kekIds] })
  await expect(denied.open('a', { ssn: envelopes[0] })).rejects.toMatchObject({ code: 'ERR_KEY_RETIRED' })
})

it('makes no new record for a keyspace whose records are all denied, or who was erased would come back', async () => {
  for (const [denials, code] of [
    [['retired', 'retired'], 'ERR_KEY_RETIRED'],
    [['retired', 'destroyed'], 'ERR_KEY_ERASED'],
  ] as const) {
    const [one, two, three] = [fakeCmk('one'), fakeCmk('two'), fakeCmk('three')]
    const first = directClinic({ cmk: one })
    const second = redeployed(first, { cmk: two, keys: { cmks: [two], formerCmks: [one] } })
    for (const world of [first, second]) await world.seal('a', { ssn: 'x' })
    const records = first.keyStore.records().filter(({ kind }) => kind === 'direct')
    records.forEach(({ id }, i) => first.keyStore.tamper(id, { denial: denials[i] }))
    const third = redeployed(first, { cmk: three, keys: { cmks: [three], formerCmks: [one, two] } })
    await expect(third.seal('a', { ssn: 'y' })).rejects.toMatchObject({ code })
    expect(three.calls).toEqual([])
    first.keyStore.tamper(records[0]?.id as never, { denial: undefined }) // one is usable again
    third.fieldseal.purge('a')
    await third.seal('a', { ssn: 'y' })
  }
})

it('reads cells of one row whose wraps have different lengths', async () => {
  const cmk = fakeCmk('one', { keyVersion: 'v'.repeat(64) })
  const { seal, open } = directClinic({ cmk })
  const long = await seal('a', { ssn: 'x'.repeat(500) })
  cmk.keyVersion = undefined
  const short = await seal('a', { email: '' })
  for (const [ssn, email] of [
    [long.envelopes[0], short.envelopes[0]],
    [short.envelopes[0], long.envelopes[0]],
  ])
    await open('a', { ssn, email }).catch(
      (error: unknown) => expect(error).toMatchObject({ code: 'ERR_DECRYPT_FAILED' }), // moved to the other column
    )
  expect((await open('a', { ssn: long.envelopes[0], email: short.envelopes[0] })).values).toEqual(['x'.repeat(500), ''])
})

it('believes no record that stands under another tenant or keyspace, or is of another kind', async () => {
  const world = directClinic()
  const { envelopes, kekIds } = await world.seal('a', { ssn: 'x' })
  const unknown = { code: 'ERR_KEY_NOT_FOUND' }
  world.keyStore.tamper(kekIds[0] as never, { tenant: 'b' })
  await expect(redeployed(world, { cmk: world.cmk }).open('a', { ssn: envelopes[0] })).rejects.toMatchObject(unknown)
  world.keyStore.tamper(kekIds[0] as never, { tenant: 'a', keyspace: 'class:payment' })
  await expect(redeployed(world, { cmk: world.cmk }).open('a', { ssn: envelopes[0] })).rejects.toMatchObject(unknown)
  const kek = redeployed(world, { cmk: world.cmk }, directPatients({ mode: 'kek' }))
  const { kekIds: keks } = await kek.seal('a', { ssn: 'y' })
  const relabelled = bytes(envelopes[0])
  Buffer.from(keks[0] ?? '', 'hex').copy(relabelled, 3)
  await expect(redeployed(world, { cmk: world.cmk }).open('a', { ssn: relabelled })).rejects.toMatchObject(unknown)
})

it('makes one record for a hundred concurrent first writes of several processes', async () => {
  const world = directClinic()
  const other = redeployed(world, { cmk: world.cmk })
  await Promise.all(rowIds(100).map((id, i) => (i % 2 === 0 ? world : other).seal('a', { ssn: 'x' }, id)))
  expect(world.keyStore.records().filter(({ kind }) => kind === 'direct')).toHaveLength(1)
})

it('has its record made by prepare, load and activate, and no DEK', async () => {
  for (const make of ['prepare', 'activate'] as const) {
    const { fieldseal, keyStore, cmk } = directClinic()
    await fieldseal[make]('a')
    expect(keyStore.records().filter(({ kind }) => kind === 'direct')).toHaveLength(1)
    expect(
      keyStore.keks().map(({ purpose }) => purpose),
      'no KEK that wraps DEKs',
    ).toEqual(['index'])
    expect(directCalls(cmk)).toEqual([])
  }
  const { host, map, as, keyStore } = directClinic()
  await as('a', () => host.load([map], host.capture(), { use: 'read' }))
  expect(keyStore.records().map(({ kind }) => kind)).not.toContain('direct')
  await as('a', () => host.load([map], host.capture(), { keyspaces: ['default'] }))
  expect(keyStore.keks().map(({ purpose }) => purpose)).toEqual(['index'])
  expect(keyStore.records().map(({ kind }) => kind)).toContain('direct')
})

it('refuses string keys, other keys, no key, and keyspaces of data subjects', () => {
  const { host } = directClinic()
  const define = (change: object) => host.defineModel({ ...directPatients(), id: 'other', ...change })
  for (const rowKey of [
    [],
    [{ path: 'id', kind: 'string' }],
    [{ path: 'id', kind: 'other' }],
    [
      { path: 'id', kind: 'uuid' },
      { path: 'name', kind: 'string' },
    ],
  ])
    expect(() => define({ rowKey })).toThrow(expect.objectContaining({ code: 'ERR_CONFIG_INVALID' }))
  expect(() => define({ options: { ...NOTES.options, mode: 'direct' } })).toThrow(/shred/)
  const composite = [
    { path: 'no', kind: 'integer' },
    { path: 'owner', kind: 'objectid' },
  ]
  expect(define({ rowKey: composite })).toMatchObject({ mode: 'direct', bindRow: 'require' })
})

it('refuses a wrap that no envelope could hold', async () => {
  const long = directClinic({ cmk: fakeCmk('one', { keyVersion: 'v'.repeat(65) }) })
  await expect(long.seal('a', { ssn: 'x' })).rejects.toMatchObject({ code: 'ERR_KMS_CONFIG' })
})

it('stops asking after the first failure of a batch, unless the caller marks what is unreadable', async () => {
  const { sealRows, openRows, cmk, fieldseal } = directClinic()
  const ids = rowIds(100)
  const cells = (await sealRows(ids)).map(({ envelopes }, i) => [ids[i] ?? '', envelopes[0]] as const)
  fieldseal.purge('a')
  cmk.calls.length = 0
  cmk.before = (_operation, { context }) => {
    if (context['row'] === `uuid:${ids[3]}`) throw kmsError('ERR_KMS_ACCESS_DENIED', {})
  }
  await expect(openRows(cells)).rejects.toMatchObject({ code: 'ERR_KMS_ACCESS_DENIED' })
  expect(cmk.calls.length).toBeLessThan(40)
  const opened = await openRows(cells, 'mark')
  expect(opened.map(({ values }) => isUnreadable(values[0])).filter(Boolean)).toHaveLength(1)
  expect(isUnreadable(opened[3]?.values[0])).toBe(true)
})

it('reads back whatever was written, in any mix of rows, cells and modes', async () => {
  const direct = directClinic({}, directPatients({ accepts: ['kek'] }))
  const kek = redeployed(direct, { cmk: direct.cmk }, directPatients({ mode: 'kek' }))
  const ids = rowIds(5)
  const writes = fc.array(
    fc.record({
      id: fc.constantFrom(...ids),
      inKek: fc.boolean(),
      ssn: fc.option(fc.string({ unit: 'grapheme' })),
      born: fc.option(fc.date({ noInvalidDate: true })),
    }),
    { minLength: 1, maxLength: 12 },
  )
  await fc.assert(
    fc.asyncProperty(writes, async (rows) => {
      const sealed = await Promise.all(
        rows.map(({ id, inKek, ssn, born }) => (inKek ? kek : direct).seal('a', { ssn, born }, id)),
      )
      const opened = await direct.as('a', () =>
        direct.host.cipher.open(
          rows.map(({ id }, i) =>
            direct.rowOf('a', { ssn: sealed[i]?.envelopes[0], born: sealed[i]?.envelopes[1] }, id),
          ),
          direct.host.capture(),
        ),
      )
      expect(opened.map(({ values }) => values)).toEqual(rows.map(({ ssn, born }) => [ssn, born]))
    }),
    { numRuns: 30 },
  )
})

it('reads by the CMK of the record also while another one does not tell its name', async () => {
  const old = fakeCmk('old', { credentialScope: 'old' })
  const before = directClinic({ cmk: old })
  const { envelopes } = await before.seal('a', { ssn: 'x' })
  const silent = fakeCmk('alias', { canonical: 'new', credentialScope: 'silent' })
  const after = redeployed(before, { cmk: silent, keys: { cmks: [silent], formerCmks: [old] } })
  silent.failure = 'ERR_KMS_UNKNOWN'
  expect((await after.open('a', { ssn: envelopes[0] })).values).toEqual(['x'])
  silent.failure = 'ERR_KMS_KEY_DISABLED'
  after.fieldseal.purge('a')
  await expect(after.open('a', { ssn: envelopes[0] })).rejects.toMatchObject({ code: 'ERR_KMS_KEY_DISABLED' })
  const without = redeployed(before, { cmk: silent, keys: { cmks: [silent] } })
  silent.failure = 'ERR_KMS_UNKNOWN'
  await expect(without.open('a', { ssn: envelopes[0] })).rejects.toMatchObject({ code: 'ERR_KMS_UNKNOWN' })
})
