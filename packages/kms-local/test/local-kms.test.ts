import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { randomBytes } from 'node:crypto'
import { isFieldsealError, SecretKey } from '@fieldseal/core/kms'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { changeCmk, createKeyFile, localKms } from '../src/index.ts'

let folder: string
let file: string
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'fieldseal-local-'))
  file = path.join(folder, 'fieldseal.key')
  createKeyFile(file, ['default', 'other'])
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const request = (context: Record<string, string> = { tenant: 'a', kek: '01' }) => ({
  context,
  signal: new AbortController().signal,
})
const key = (bytes = randomBytes(32)) => new SecretKey(Uint8Array.from(bytes))

it('unwraps what it wrapped, under the same context only', async () => {
  const bytes = randomBytes(32)
  const cmk = localKms({ file }).cmk('default')
  const wrap = await cmk.wrap(key(bytes), request())
  expect(wrap.blob).toHaveLength(65)
  expect(Buffer.from((await cmk.unwrap(wrap, request())).exposeBytes()).equals(bytes)).toBe(true)
  for (const context of [
    { tenant: 'b', kek: '01' },
    { tenant: 'a' },
    { tenant: 'a', kek: '01', more: 'x' },
    { tenan: 't', a: 'kek01' },
  ]) {
    await expect(cmk.unwrap(wrap, request(context as never))).rejects.toMatchObject({
      code: 'ERR_KMS_CIPHERTEXT_OR_CONTEXT_INVALID',
    })
  }
})

it('refuses a blob with any byte flipped, cut or added', async () => {
  const cmk = localKms({ file }).cmk('default')
  const { blob } = await cmk.wrap(key(), request())
  const broken = Array.from(blob, (_byte, i) => Uint8Array.from(blob, (byte, j) => (i === j ? byte ^ 1 : byte)))
  broken.push(blob.slice(0, -1), Uint8Array.of(...blob, 0), new Uint8Array(0))
  for (const bad of broken) {
    await expect(cmk.unwrap({ blob: bad, versionEvidence: 'unknown' }, request())).rejects.toMatchObject({
      code: 'ERR_KMS_CIPHERTEXT_OR_CONTEXT_INVALID',
    })
  }
})

it('does not unwrap what another CMK or a CMK of the same name in another file wrapped', async () => {
  const second = path.join(folder, 'second.key')
  createKeyFile(second)
  const wrap = await localKms({ file }).cmk('default').wrap(key(), request())
  for (const cmk of [localKms({ file }).cmk('other'), localKms({ file: second }).cmk('default')]) {
    await expect(cmk.unwrap(wrap, request())).rejects.toMatchObject({ kind: 'corrupt' })
  }
  const canonical = await localKms({ file }).cmk('default').canonicalUri?.(request())
  expect(canonical).toMatch(/^local:[0-9a-f]{24}\/default$/)
  await expect(
    localKms({ file: second })
      .cmk(canonical ?? '')
      .wrap(key(), request()),
  ).rejects.toMatchObject({ code: 'ERR_KMS_KEY_NOT_FOUND' })
})

it('keeps old versions readable after a rotation and wraps with the newest', async () => {
  const cmk = localKms({ file }).cmk('default')
  const before = await cmk.wrap(key(), request())
  changeCmk(file, 'default', 'rotate')
  const after = await cmk.wrap(key(), request())
  expect([before.keyVersion, after.keyVersion]).toEqual(['1', '2'])
  await expect(cmk.unwrap(before, request())).resolves.toBeInstanceOf(SecretKey)
  expect(await cmk.describe?.(request())).toEqual({ state: 'enabled', currentVersion: '2' })
})

it('denies at the next call after a CMK was disabled, and works again once enabled', async () => {
  const cmk = localKms({ file }).cmk('default')
  const wrap = await cmk.wrap(key(), request())
  changeCmk(file, 'default', 'disable')
  await expect(cmk.unwrap(wrap, request())).rejects.toMatchObject({ code: 'ERR_KMS_KEY_DISABLED', kind: 'denied' })
  expect(await cmk.probe?.(wrap, request())).toBe('denied')
  changeCmk(file, 'default', 'enable')
  await expect(cmk.unwrap(wrap, request())).resolves.toBeInstanceOf(SecretKey)
  changeCmk(file, 'default', { deleteInDays: 7 })
  await expect(cmk.wrap(key(), request())).rejects.toMatchObject({ code: 'ERR_KMS_KEY_PENDING_DELETION' })
  changeCmk(file, 'default', 'destroy')
  await expect(cmk.unwrap(wrap, request())).rejects.toMatchObject({ code: 'ERR_KMS_KEY_DESTROYED' })
  expect(readFileSync(file, 'utf8')).not.toContain('"key": "","')
  expect(() => changeCmk(file, 'default', 'enable')).toThrow('destroyed')
})

it('keeps the key file to its owner and refuses one that others may read', async () => {
  expect(statSync(file).mode & 0o777).toBe(0o600)
  chmodSync(file, 0o640)
  await expect(localKms({ file }).cmk('default').wrap(key(), request())).rejects.toMatchObject({
    code: 'ERR_KMS_CONFIG',
  })
  expect(() => createKeyFile(file)).toThrow('exists already')
})

it('refuses a key file cut at any length with a typed error that quotes nothing of it', async () => {
  const text = readFileSync(file, 'utf8').trimEnd()
  for (let length = 0; length < text.length; length += 7) {
    writeFileSync(file, text.slice(0, length), { mode: 0o600 })
    const error: unknown = await localKms({ file })
      .cmk('default')
      .wrap(key(), request())
      .catch((e: unknown) => e)
    expect(isFieldsealError(error) && error.code).toBe('ERR_KMS_CONFIG')
    expect(String(error)).not.toContain(text.slice(60, 80))
  }
})

it('says that a missing file is no answer, so that cached keys live on for a while', async () => {
  rmSync(file)
  await expect(localKms({ file }).cmk('default').wrap(key(), request())).rejects.toMatchObject({ kind: 'unavailable' })
})

it('refuses to run in production unless told to', () => {
  const before = process.env['NODE_ENV']
  process.env['NODE_ENV'] = 'production'
  try {
    expect(() => localKms({ file })).toThrow('ERR_CONFIG_INVALID')
    expect(() => localKms({ file, allowInProduction: true })).not.toThrow()
  } finally {
    process.env['NODE_ENV'] = before
  }
})
