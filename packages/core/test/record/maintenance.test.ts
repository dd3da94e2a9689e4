import { createSecretKey } from 'node:crypto'
import { expect, it } from 'vitest'
import { rotateKek } from '../../src/attach.ts'
import { keyIdOf } from '../../src/envelope/parse.ts'
import {
  changeKek,
  digestRows,
  newestKekId,
  reEncryptRows,
  rewrapRows,
  tokenRows,
  verifyRows,
} from '../../src/maintenance.ts'
import type { Envelope, Row, RowPatch } from '../../src/record/ports.ts'
import { clinic, ID, OTHER_ID } from '../support/clinic.ts'

type App = ReturnType<typeof clinic>
const TENANT = 'a'

async function prepared(values: Record<string, unknown> = { ssn: '1', email: 'A@x.org', born: new Date(0) }) {
  const app = clinic()
  const sealed = await app.seal(TENANT, values)
  const unbound = await app.as(TENANT, () =>
    app.host.cipher.seal([{ ...app.rowOf(TENANT, values, undefined) }], app.host.capture()),
  )
  const stored = stored_(values, sealed.envelopes)
  const [loose] = unbound
  return { ...app, stored, tokens: sealed.tokens, loose: stored_(values, loose?.envelopes ?? []) }
}

function stored_(values: Record<string, unknown>, envelopes: readonly (Envelope | null)[]) {
  return Object.fromEntries(Object.keys(values).map((path, i) => [path, envelopes[i] ?? null]))
}

const contextOf = ({ as, host }: Pick<App, 'as' | 'host'>) => as(TENANT, () => host.capture())

function applied(stored: Record<string, unknown>, cells: RowPatch['cells']): Record<string, unknown> {
  return { ...stored, ...Object.fromEntries(cells.map(({ field, after }) => [field.path, after])) }
}

function cellsOf(outcome: { readonly cells: RowPatch['cells'] } | { readonly error: unknown } | undefined) {
  if (outcome === undefined || 'error' in outcome) throw outcome?.error ?? new Error('no outcome')
  return outcome.cells
}

const wrapOf = (bytes: unknown) => Buffer.from(bytes as Uint8Array).subarray(18, 84)
const valueOf = (bytes: unknown) => Buffer.from(bytes as Uint8Array).subarray(84)
const kekOf = (bytes: unknown) => keyIdOf(Buffer.from(bytes as Uint8Array))

it('rewraps many rows with one look-up of keys, copying the values, and leaves what is wrapped so already', async () => {
  const app = await prepared()
  const { kekId } = await rotateKek(app.fieldseal, { tenant: TENANT })
  const rows = Array.from({ length: 50 }, () => app.rowOf(TENANT, app.stored, ID))
  app.keyStore.calls.length = 0
  const outcomes = await rewrapRows(app.fieldseal, rows, contextOf(app))
  expect(app.keyStore.calls).toEqual([])
  const cells = cellsOf(outcomes[7])
  expect(cells.map(({ after }) => kekOf(after))).toEqual([kekId, kekId, kekId])
  expect(new Set(cells.map(({ after }) => wrapOf(after).toString('hex'))).size).toBe(1)
  for (const { before, after } of cells) expect(valueOf(after)).toEqual(valueOf(before))
  const now = applied(app.stored, cells)
  expect((await app.open(TENANT, now)).values).toEqual(['1', 'A@x.org', new Date(0)])
  expect(await rewrapRows(app.fieldseal, [app.rowOf(TENANT, now, ID)], contextOf(app))).toEqual([{ cells: [] }])
})

it('gives each row an outcome of its own', async () => {
  const app = await prepared()
  await rotateKek(app.fieldseal, { tenant: TENANT })
  const rows = [
    app.rowOf(TENANT, app.stored, ID),
    app.rowOf(TENANT, app.stored, OTHER_ID),
    app.rowOf(TENANT, { ssn: 'plain' }, ID),
    app.rowOf(TENANT, { ssn: null }, ID),
  ]
  const outcomes = await rewrapRows(app.fieldseal, rows, contextOf(app))
  expect(outcomes).toMatchObject([
    { cells: [{}, {}, {}] },
    { error: { code: 'ERR_DECRYPT_FAILED' } },
    { error: { code: 'ERR_PLAINTEXT_FOUND' } },
    { cells: [] },
  ])
})

it('copies values unopened: what was moved to another field is as unreadable after a rewrap, and whole when it is put back', async () => {
  const app = await prepared()
  await rotateKek(app.fieldseal, { tenant: TENANT })
  const { ssn, email } = app.stored
  const swapped = { ...app.stored, ssn: email, email: ssn }
  const [outcome] = await rewrapRows(app.fieldseal, [app.rowOf(TENANT, swapped, ID)], contextOf(app))
  const now = applied(swapped, cellsOf(outcome))
  await expect(app.open(TENANT, now)).rejects.toMatchObject({ code: 'ERR_DECRYPT_FAILED' })
  const back = { ...now, ssn: now['email'], email: now['ssn'] }
  expect((await app.open(TENANT, back)).values).toEqual(['1', 'A@x.org', new Date(0)])
})

it('binds what was unbound only when told to', async () => {
  const app = await prepared()
  const rows = [app.rowOf(TENANT, app.loose, ID)]
  expect(await rewrapRows(app.fieldseal, rows, contextOf(app))).toEqual([{ cells: [] }])
  await rotateKek(app.fieldseal, { tenant: TENANT })
  const kept = cellsOf((await rewrapRows(app.fieldseal, rows, contextOf(app)))[0])
  expect((await app.open(TENANT, applied(app.loose, kept), OTHER_ID)).values[0]).toBe('1')
  const bound = cellsOf((await rewrapRows(app.fieldseal, rows, contextOf(app), { bind: true }))[0])
  expect((await app.open(TENANT, applied(app.loose, bound), ID)).values[0]).toBe('1')
  await expect(app.open(TENANT, applied(app.loose, bound), OTHER_ID)).rejects.toMatchObject({
    code: 'ERR_DECRYPT_FAILED',
  })
})

it('binds a renumbered row to where it stands now, and leaves one that was done before', async () => {
  const app = await prepared()
  const formerRowId = app.rowOf(TENANT, {}, ID).facts.rowId
  const at = (stored: Record<string, unknown>) => [app.rowOf(TENANT, stored, OTHER_ID)]
  const moved = cellsOf(
    (await rewrapRows(app.fieldseal, at(app.stored), contextOf(app), { formerRowIds: [formerRowId] }))[0],
  )
  const now = applied(app.stored, moved)
  expect((await app.open(TENANT, now, OTHER_ID)).values[0]).toBe('1')
  expect(await rewrapRows(app.fieldseal, at(now), contextOf(app), { formerRowIds: [formerRowId] })).toEqual([
    { cells: [] },
  ])
})

it('gives a renumbered row whose key has leaked a new DEK when it binds it, and hides none under a newer key', async () => {
  const app = await prepared()
  const formerRowId = app.rowOf(TENANT, {}, ID).facts.rowId
  const leaked = kekOf(app.stored['ssn'])
  await changeKek(app.fieldseal, leaked, { to: 'compromised' })
  const newest = await newestKekId(app.fieldseal, { tenant: TENANT, keyspace: 'default' })
  const born = await app.seal(TENANT, { born: new Date(1) })
  const mixed = { ...app.stored, born: born.envelopes[0] }
  const rows = [app.rowOf(TENANT, mixed, OTHER_ID)]
  const cells = cellsOf(
    (await rewrapRows(app.fieldseal, rows, contextOf(app), { bind: true, formerRowIds: [formerRowId] }))[0],
  )
  expect(cells.map(({ after }) => kekOf(after))).toEqual([newest, newest, newest])
  const kept = cells.filter(({ before, after }) => valueOf(after).equals(valueOf(before)))
  expect(kept.map(({ field }) => field.path)).toEqual(['born'])
  const now = applied(mixed, cells)
  expect((await app.open(TENANT, now, OTHER_ID)).values).toEqual(['1', 'A@x.org', new Date(1)])
})

it('encrypts under a new DEK what a leaked key could open, and keeps values, binding and the rest of the row', async () => {
  const app = await prepared()
  const leaked = kekOf(app.stored['ssn'])
  await changeKek(app.fieldseal, leaked, { to: 'compromised' })
  const newest = await newestKekId(app.fieldseal, { tenant: TENANT, keyspace: 'default' })
  expect(newest).not.toBe(leaked)
  const born = await app.seal(TENANT, { born: new Date(1) })
  const mixed = { ...app.stored, email: app.loose['email'], born: born.envelopes[0] }
  const rows = [app.rowOf(TENANT, mixed, ID), app.rowOf(TENANT, { ssn: app.stored['ssn'] }, OTHER_ID)]
  const outcomes = await reEncryptRows(app.fieldseal, rows, contextOf(app), new Set([leaked]))
  const cells = cellsOf(outcomes[0])
  expect(cells.map(({ field }) => field.path)).toEqual(['ssn', 'email'])
  for (const { before, after } of cells) {
    expect(kekOf(after)).toBe(newest)
    expect(valueOf(after)).not.toEqual(valueOf(before))
    expect(Buffer.from(after)[15]).toBe(Buffer.from(before)[15])
  }
  expect((await app.open(TENANT, applied(mixed, cells))).values).toEqual(['1', 'A@x.org', new Date(1)])
  expect(outcomes[1]).toMatchObject({ error: { code: 'ERR_DECRYPT_FAILED' } })
})

it('neither rewraps nor offers for a rewrap what a compromised key has wrapped', async () => {
  const app = await prepared()
  await changeKek(app.fieldseal, kekOf(app.stored['ssn']), { to: 'compromised' })
  await newestKekId(app.fieldseal, { tenant: TENANT, keyspace: 'default' })
  const rows = [app.rowOf(TENANT, app.stored, ID), app.rowOf(TENANT, app.loose, ID)]
  expect(await rewrapRows(app.fieldseal, rows, contextOf(app), { bind: true })).toEqual([{ cells: [] }, { cells: [] }])
  expect((await app.open(TENANT, app.stored)).outdated).toEqual([])
})

it('verifies values and tokens, row by row', async () => {
  const app = await prepared()
  const rowOf = (stored: Record<string, unknown>, id = ID) => app.rowOf(TENANT, stored, id) as Row<unknown>
  const [index] = app.map.indexes
  const [[token] = []] = app.tokens.get(app.map.indexes[0] as never) ?? []
  if (index === undefined || token === undefined) return expect.unreachable()
  const wrong = Uint8Array.from(token)
  wrong[5] = (wrong[5] ?? 0) ^ 1
  const verify = (rows: Parameters<typeof verifyRows>[1]) => verifyRows(app.fieldseal, rows, contextOf(app))
  expect(
    await verify([
      { row: rowOf(app.stored), tokens: app.tokens },
      { row: rowOf(app.stored) },
      { row: rowOf(app.stored), tokens: new Map([[index, [[wrong as never]]]]) },
      { row: rowOf(app.stored), tokens: new Map() },
      { row: rowOf({ ...app.stored, email: null }), tokens: new Map([[index, [[]]]]) },
      { row: rowOf(app.stored, OTHER_ID), tokens: app.tokens },
    ]),
  ).toMatchObject([
    { values: 3, tokens: 1, problems: [], outdated: 0 },
    { values: 3, tokens: 0, problems: [] },
    { values: 3, tokens: 0, problems: [{ field: 'email', code: 'ERR_TOKEN_MISMATCH' }] },
    { values: 3, problems: [{ field: 'email', code: 'ERR_TOKEN_MISMATCH' }] },
    { values: 2, tokens: 0, problems: [] },
    { values: 0, problems: [{ code: 'ERR_DECRYPT_FAILED' }, {}, {}] },
  ])
  app.keyStore.down = true
  app.fieldseal.purge(TENANT)
  await expect(verify([{ row: rowOf(app.stored) }])).rejects.toMatchObject({ kind: 'unavailable' })
})

it('asks for keys again that are purged while rows are looked at: that says nothing about a row', async () => {
  const app = await prepared()
  await rotateKek(app.fieldseal, { tenant: TENANT })
  const [index] = app.map.indexes
  if (index === undefined) throw new Error('the model has an index')
  const verified = { row: app.rowOf(TENANT, app.stored, ID), tokens: app.tokens }
  const context = contextOf(app)
  const key = createSecretKey(Buffer.alloc(32))
  const whole = { cells: [{}, {}, {}] }
  const works = [
    ['verifyRows', () => verifyRows(app.fieldseal, [verified], context), { values: 3, tokens: 1, problems: [] }],
    ['tokenRows', () => tokenRows(app.fieldseal, [verified], context, true), { cells: [] }],
    [
      'digestRows',
      () => digestRows(app.fieldseal, [verified.row], context, { index, key }),
      { digests: [expect.any(Buffer)] },
    ],
    ['rewrapRows', () => rewrapRows(app.fieldseal, [verified.row], context), whole],
    [
      'reEncryptRows',
      () => reEncryptRows(app.fieldseal, [verified.row], context, new Set(app.keyStore.keks().map(({ id }) => id))),
      whole,
    ],
  ] as const
  for (const [name, work, outcome] of works)
    for (let turn = 0; turn < 60; turn++) {
      app.fieldseal.purge(TENANT)
      const calls = app.cmk.calls.length
      const working = work()
      while (app.cmk.calls.length === calls) await Promise.resolve()
      for (let i = 0; i < turn; i++) await Promise.resolve()
      app.fieldseal.purge(TENANT)
      expect(await working, `${name} ${turn}`).toMatchObject([outcome])
    }
})
