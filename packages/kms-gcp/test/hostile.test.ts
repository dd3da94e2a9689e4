import { randomBytes } from 'node:crypto'
import { failure, newKey, request } from '@fieldseal/kms-emulators/vitest'
import { describe, expect, it } from 'vitest'
import { crc32c } from '../src/crc32c.ts'
import { useGcp } from './support/gcp.ts'

const gcp = useGcp()
const sum = (bytes: Uint8Array) => ({ value: String(crc32c(bytes)) })

describe('a KMS that lies, or a network that alters', () => {
  it('is noticed when a checksum of the answer is wrong or missing', async () => {
    const { cmk } = gcp.cmk()
    const wrap = await cmk.wrap(newKey(), request())
    for (const value of [{ value: '1' }, { value: '-1' }, { value: '4294967296' }, null, undefined]) {
      const undo = gcp.emulator.alter((answer) => ({ ...answer, plaintextCrc32c: value, ciphertextCrc32c: value }))
      expect((await failure(cmk.unwrap(wrap, request()))).code).toBe('ERR_KMS_INTEGRITY_FAILED')
      expect((await failure(cmk.wrap(newKey(), request()))).code).toBe('ERR_KMS_INTEGRITY_FAILED')
      undo()
    }
  })

  it('is noticed when Google did not see what we sent', async () => {
    const { cmk } = gcp.cmk()
    for (const field of ['verifiedPlaintextCrc32c', 'verifiedAdditionalAuthenticatedDataCrc32c']) {
      const undo = gcp.emulator.alter((answer) => ({ ...answer, [field]: false }))
      expect(await failure(cmk.wrap(newKey(), request()))).toMatchObject({
        code: 'ERR_KMS_INTEGRITY_FAILED',
        kind: 'unavailable',
      })
      undo()
    }
  })

  it('is not believed when it names another key, no version, or something that is none', async () => {
    const { name, cmk } = gcp.cmk()
    const foreign = gcp.emulator.createKey()
    for (const answered of [
      foreign,
      `${foreign}/cryptoKeyVersions/1`,
      name,
      `${name}/cryptoKeyVersions/x`,
      `${name}/cryptoKeyVersions/${'9'.repeat(30)}`,
    ]) {
      const undo = gcp.emulator.alter((answer) => ({ ...answer, name: answered }))
      expect((await failure(cmk.wrap(newKey(), request()))).code, answered).toBe('ERR_KMS_WRONG_KEY')
      undo()
    }
    const undo = gcp.emulator.alter((answer) => ({ ...answer, name: '' }))
    expect((await failure(cmk.wrap(newKey(), request()))).code).toBe('ERR_KMS_INTEGRITY_FAILED')
    undo()
    gcp.emulator.alter((answer) => ({ ...answer, name: foreign }))
    expect((await failure(cmk.describe?.(request()) ?? Promise.resolve())).code).toBe('ERR_KMS_WRONG_KEY')
  })

  it('cannot hand out a key that is short, long or empty', async () => {
    const { cmk } = gcp.cmk()
    const wrap = await cmk.wrap(newKey(), request())
    for (const length of [0, 1, 16, 31, 33, 64, 4_096]) {
      const plaintext = randomBytes(length)
      const undo = gcp.emulator.alter((answer) => ({ ...answer, plaintext, plaintextCrc32c: sum(plaintext) }))
      expect((await failure(cmk.unwrap(wrap, request()))).kind).toBe('corrupt')
      undo()
    }
  })

  it('cannot make us store a blob that is empty or longer than a blob may be', async () => {
    const { cmk } = gcp.cmk()
    for (const length of [0, 6_145]) {
      const ciphertext = randomBytes(length)
      const undo = gcp.emulator.alter((answer) => ({ ...answer, ciphertext, ciphertextCrc32c: sum(ciphertext) }))
      expect((await failure(cmk.wrap(newKey(), request()))).code).toBe('ERR_KMS_INTEGRITY_FAILED')
      undo()
    }
  })

  it('changes nothing by fields that nobody asked for', async () => {
    const { cmk } = gcp.cmk()
    const wrap = await cmk.wrap(newKey(), request())
    gcp.emulator.alter((answer) => ({
      ...answer,
      usedPrimary: false,
      protectionLevel: 'EXTERNAL',
      extra: { deep: [1] },
    }))
    await cmk.unwrap(wrap, request())
  })

  it('cannot fill our memory: an answer of megabytes is refused by its length', async () => {
    const { cmk } = gcp.cmk()
    const wrap = await cmk.wrap(newKey(), request())
    const plaintext = Buffer.alloc(8 * 1_048_576, 0x41)
    gcp.emulator.alter((answer) => ({ ...answer, plaintext, plaintextCrc32c: sum(plaintext) }))
    expect(await failure(cmk.unwrap(wrap, request()))).toMatchObject({
      code: 'ERR_KMS_INTEGRITY_FAILED',
      details: { vendorCode: 'grpc:8' },
    })
  })
})
