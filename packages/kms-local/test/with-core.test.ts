import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createFieldseal } from '@fieldseal/core'
import { attach, type Envelope, type ModelDeclaration, type RecordWriter, type Row } from '@fieldseal/core/adapter'
import { memoryKeyStore } from '@fieldseal/testkit'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { changeCmk, createKeyFile, localKms } from '../src/index.ts'

let folder: string
let file: string
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'fieldseal-local-'))
  file = path.join(folder, 'fieldseal.key')
  createKeyFile(file)
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const ID = 'b5a1f6de-3f7c-4ac3-9a2e-4f0a8b0b5f01'
const patients = (mode: 'kek' | 'direct'): ModelDeclaration => ({
  id: 'patients',
  options: { tenantBy: 'clinic', mode, accepts: [mode === 'kek' ? 'direct' : 'kek'] },
  fields: [{ path: 'ssn', type: 'string', options: {} }],
  rowKey: [{ path: 'id', kind: 'uuid' }],
})

/** An application on the key file; `keyStore` carries over between several of them. */
function application(mode: 'kek' | 'direct', keyStore = memoryKeyStore()) {
  const cmk = localKms({ file }).cmk('default')
  const fieldseal = createFieldseal({ app: 'clinic', tenancy: 'multi', keyStore, keys: { cmks: [cmk] } })
  const host = attach(fieldseal, { name: 'test', ormVersion: '0' })
  const map = host.defineModel(patients(mode))
  const [field] = map.fields
  if (field === undefined) throw new Error('no field')
  const row = <V>(value: V): Row<V> => ({
    map,
    facts: map.facts({ clinic: 'a', id: ID }, context()),
    cells: [{ field, value }],
  })
  const context = () => fieldseal.runAs({ tenant: 'a' }, () => host.capture())
  const seal = async (value: string) => {
    const envelope = (await host.cipher.seal([row(value)], context()))[0]?.envelopes[0]
    if (!envelope) throw new Error('nothing was sealed')
    return envelope
  }
  const open = async (stored: Envelope) => (await host.cipher.open([row(stored)], context()))[0]
  /** The stored cell after the background has rewrapped what is outdated. */
  const rewrapped = async (stored: Envelope): Promise<Envelope> => {
    let now = stored
    const writer: RecordWriter = {
      async compareAndSet(_map, patches) {
        for (const { cells } of patches) for (const { after } of cells) now = after
        return patches.map(() => 'updated')
      },
    }
    host.rewraps.offer(row(stored), ID, writer)
    await fieldseal.flush()
    return now
  }
  return { fieldseal, keyStore, seal, open, rewrapped }
}

it('seals and opens in mode direct, and follows a new version of the CMK by unwrap and wrap', async () => {
  const { seal, open, rewrapped, keyStore } = application('direct')
  const stored = await seal('078-05-1120')
  expect(await open(stored)).toEqual(expect.objectContaining({ values: ['078-05-1120'], outdated: [] }))
  changeCmk(file, 'default', 'rotate')
  await seal('teaches the process the new version')
  expect((await open(stored))?.outdated).toEqual([0])
  const after = await rewrapped(stored)
  expect(Buffer.from(after).equals(Buffer.from(stored))).toBe(false)
  expect(await application('direct', keyStore).open(after)).toMatchObject({ values: ['078-05-1120'] })
})

it('takes rows from mode kek to direct and back', async () => {
  const kek = application('kek')
  const stored = await kek.seal('x')
  const direct = application('direct', kek.keyStore)
  await direct.fieldseal.prepare('a')
  const there = await direct.rewrapped(stored)
  expect(await direct.open(there)).toMatchObject({ values: ['x'], outdated: [] })
  const back = await application('kek', kek.keyStore).rewrapped(there)
  expect(await application('kek', kek.keyStore).open(back)).toMatchObject({ values: ['x'], outdated: [] })
})

it('stops opening when the CMK is disabled, and says what it is waiting for', async () => {
  const { seal, open, fieldseal } = application('direct')
  const stored = await seal('x')
  await open(stored)
  changeCmk(file, 'default', 'disable')
  expect(await fieldseal.health('a')).toMatchObject({ status: 'denied' })
  fieldseal.purge('a')
  await expect(open(stored)).rejects.toMatchObject({ code: 'ERR_KMS_KEY_DISABLED', kind: 'denied' })
  changeCmk(file, 'default', 'enable')
  fieldseal.purge('a')
  await open(stored)
  expect(await fieldseal.health('a')).toMatchObject({ status: 'healthy' })
})

it('proves itself on activation', async () => {
  const { fieldseal, keyStore, seal } = application('direct')
  await fieldseal.activate('a')
  expect(keyStore.rows.size).toBeGreaterThan(0)
  await seal('x')
})
