import { inspect } from 'node:util'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { attach } from '../../src/attach.ts'
import { envelopeToText } from '../../src/envelope/text-form.ts'
import { leakGuard } from '../../src/record/leak-guard.ts'
import type { FieldState } from '../../src/record/options.ts'
import { isPlainCell, plainCell } from '../../src/record/plain-cell.ts'
import type { BlindIndex, Envelope, ModelDeclaration } from '../../src/record/ports.ts'
import { clinic, ID } from '../support/clinic.ts'

function declared(state: FieldState, more: { readonly plaintextIn?: string; readonly encryptNull?: boolean } = {}) {
  return {
    id: 'staff',
    options: { tenantBy: 'clinic_id' },
    fields: [{ path: 'phone', type: 'string', options: { blindIndex: more.encryptNull !== true, state, ...more } }],
    rowKey: [{ path: 'id', kind: 'uuid' }],
  } satisfies ModelDeclaration
}

function staff(state: FieldState, more: Parameters<typeof declared>[1] = {}, base = clinic()) {
  const host = attach(base.fieldseal, { name: 'states', ormVersion: '0', fieldStates: true })
  const map = host.defineModel(declared(state, more))
  const [field] = map.fields
  if (field === undefined) throw new Error('no field')
  const inRow = (value: unknown) => {
    const context = host.capture()
    return { context, row: { map, facts: map.facts({ id: ID, clinic_id: 'a' }, context), cells: [{ field, value }] } }
  }
  const as = <R>(fn: () => Promise<R>) => base.fieldseal.runAs({ tenant: 'a' }, fn)
  return {
    base,
    map,
    field,
    host,
    open: (stored: unknown) =>
      as(async () => {
        const { context, row } = inRow(stored)
        return (await host.cipher.open([row], context))[0]?.values[0]
      }),
    seal: (value: unknown) =>
      as(async () => {
        const { context, row } = inRow(value)
        return (await host.cipher.seal([row], context))[0]
      }),
    index: (value: unknown) =>
      as(async () => {
        const { context, row } = inRow(value)
        return (await host.cipher.index([row], context))[0]
      }),
  }
}

const states = ['plaintext', 'migrating'] as const

it('makes no key for a look-up in state plaintext, and asks no KMS where the index never had a token', async () => {
  const base = clinic()
  const { host, map } = staff('plaintext', {}, base)
  const index = map.indexes[0] as BlindIndex
  const look = () =>
    base.fieldseal.runAs({ tenant: 'a' }, async () =>
      host.cipher.tokens([{ index, values: ['555-01'] }], host.capture()),
    )
  expect(await look()).toEqual([[]])
  expect(base.cmk.calls).toEqual([])
  expect(base.keyStore.calls).not.toContain('insert')
  const newer = clinic({ keyStore: base.keyStore, cmk: base.cmk })
  const sealed = await staff('migrating', {}, newer).seal('555-01')
  expect(await look()).toEqual([[...(sealed?.tokens.values() ?? [])][0]?.[0]]) // at once, whoever stored it
})

it.each(states)('reads plaintext and envelopes in state %s', async (state) => {
  const { seal, open } = staff(state)
  const envelope = (await seal('555-01'))?.envelopes[0] as Envelope
  expect(await open('555-02')).toBe('555-02')
  expect(await open(plainCell('phone', '555-03'))).toBe('555-03')
  expect(await open(envelope)).toBe('555-01')
  expect(await open(envelopeToText(envelope))).toBe('555-01')
  expect(await open(null)).toBeNull()
})

it('refuses plaintext in state encrypted, however it is handed over', async () => {
  const { open } = staff('encrypted')
  for (const stored of ['555-02', plainCell('phone', '555-02'), plainCell('phone_old', '555-02')])
    await expect(open(stored)).rejects.toMatchObject({ code: 'ERR_PLAINTEXT_FOUND', kind: 'corrupt' })
})

it.each(states)(
  'refuses plaintext in the place of envelopes in state %s when the old place is another',
  async (state) => {
    const { open } = staff(state, { plaintextIn: 'phone_old' })
    expect(await open(plainCell('phone_old', '555-02'))).toBe('555-02')
    await expect(open('555-02')).rejects.toMatchObject({ code: 'ERR_PLAINTEXT_FOUND' })
  },
)

it('reads text that parses as an envelope as one, and never as plaintext', async () => {
  const { seal, open } = staff('migrating')
  const forged = Buffer.from((await seal('555-01'))?.envelopes[0] ?? [])
  forged[forged.length - 1] = (forged.at(-1) ?? 0) ^ 1
  await expect(open(envelopeToText(forged as Uint8Array as Envelope))).rejects.toMatchObject({
    code: 'ERR_DECRYPT_FAILED',
  })
})

it('reads a NULL of a field that encrypts nulls as null until the field is encrypted', async () => {
  expect(await staff('migrating', { encryptNull: true }).open(null)).toBeNull()
  await expect(staff('encrypted', { encryptNull: true }).open(null)).rejects.toMatchObject({
    code: 'ERR_PLAINTEXT_FOUND',
  })
})

it('gives values stored unencrypted the tokens that they have when they are sealed', async () => {
  const base = clinic()
  const before = staff('plaintext', {}, base)
  const [ofPlain = []] = [...((await before.index('555-01')) ?? [])].map(([, tokens]) => tokens)
  const [ofSealed = []] = [...((await before.seal('555-01'))?.tokens ?? [])].map(([, tokens]) => tokens)
  expect(ofPlain).toEqual(ofSealed)
  expect(ofPlain[0]).toHaveLength(1)
  expect([...((await before.index(null)) ?? [])].map(([, tokens]) => tokens)).toEqual([[[]]])
})

it('needs to know no row id for tokens alone, and takes none of what could not be opened', async () => {
  const { map, field, host, base, seal } = staff('plaintext')
  await base.fieldseal.runAs({ tenant: 'a' }, async () => {
    const context = host.capture()
    const facts = { tenant: 'a', keyspace: 'default', rowId: undefined }
    const row = { map: { ...map, bindRow: 'require' as const }, facts, cells: [{ field, value: '555-01' }] }
    expect(await host.cipher.index([row], context)).toHaveLength(1)
    const foreign = { ...row, facts: { ...facts, tenant: 'b' } }
    await expect(host.cipher.index([foreign], context)).rejects.toMatchObject({ code: 'ERR_TENANT_MISMATCH' })
  })
  const forged = Buffer.from((await seal('555-01'))?.envelopes[0] ?? [])
  forged[forged.length - 1] = (forged.at(-1) ?? 0) ^ 1
  const marked = await base.fieldseal.runAs({ tenant: 'a', onUnreadable: 'mark' }, async () => {
    const context = host.capture()
    const facts = map.facts({ id: ID, clinic_id: 'a' }, context)
    const [opened] = await host.cipher.open([{ map, facts, cells: [{ field, value: forged }] }], context)
    const cells = [{ field, value: opened?.values[0] }]
    return host.cipher.index([{ map, facts, cells }], context).catch((error: unknown) => error)
  })
  expect(marked).toMatchObject({ code: 'ERR_UNREADABLE_VALUE' })
})

it('asks for no key of values to compute tokens alone', async () => {
  const { index, base } = staff('plaintext')
  await index('555-01')
  const made = [...base.keyStore.rows.values()].map((text) => (JSON.parse(text) as { purpose?: string }).purpose)
  expect(made).toContain('index')
  expect(made).not.toContain('wrap')
})

it('lets plaintext out in state plaintext alone, and there no text that would be read back as an envelope', async () => {
  const { field, seal } = staff('plaintext')
  const envelope = (await seal('555-01'))?.envelopes[0] as Envelope
  leakGuard.assertPlain(field, '555-01')
  leakGuard.assertPlain(field, 'fs.not an envelope')
  expect(() => leakGuard.assertPlain(field, envelopeToText(envelope))).toThrow(/looks like an envelope/)
  for (const state of ['migrating', 'encrypted'] as const)
    expect(() => leakGuard.assertPlain(staff(state).field, '555-01')).toThrow(/ERR_PLAINTEXT_BLOCKED/)
})

it('refuses states and places that make no sense, and any state of an adapter that does not keep them', () => {
  const { host, base } = staff('encrypted')
  const old = attach(base.fieldseal, { name: 'old', ormVersion: '0' })
  expect(() => old.defineModel({ ...declared('migrating'), id: 'b' })).toThrow(/state: not supported yet/)
  const other = { path: 'fax', type: 'string', options: {} }
  const model = declared('migrating')
  for (const plaintextIn of ['phone', '', 'id', 'clinic_id', 'fax'])
    expect(() =>
      host.defineModel({
        ...model,
        fields: [{ ...model.fields[0], options: { state: 'migrating', plaintextIn } }, other],
      } as never),
    ).toThrow(/plaintextIn/)
  expect(() => host.defineModel({ ...declared('open' as never), id: 'c' })).toThrow(/state: 'plaintext'/)
})

it('shows no value of a plain cell', () => {
  const cell = plainCell('phone', 'secret-1', { stored: 'secret-2' })
  expect(isPlainCell(cell)).toBe(true)
  expect(`${inspect(cell, { depth: 5 })}${JSON.stringify(cell)}`).not.toContain('secret')
})

it('rewraps no plaintext and lets it stand beside what it rewraps', async () => {
  const { open, field, host, map, base } = staff('migrating')
  await base.fieldseal.runAs({ tenant: 'a' }, async () => {
    const context = host.capture()
    const row = { map, facts: map.facts({ id: ID, clinic_id: 'a' }, context), cells: [{ field, value: '555-02' }] }
    const [opened] = await host.cipher.open([row], context)
    expect(opened?.outdated).toEqual([])
  })
  expect(await open('555-02')).toBe('555-02')
})

it('hands out any plaintext but look-alikes of envelopes unchanged', async () => {
  const { open } = staff('migrating')
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(
        fc.string(),
        fc.base64String().map((text) => `fs.${text}`),
      ),
      async (text) => {
        expect(await open(text)).toBe(text)
      },
    ),
    { numRuns: 100 },
  )
})
