import { describe, expect, it } from 'vitest'
import { fakeKms, keyStoreConformance, kmsConformance, memoryKeyStore } from '../src/index.ts'

kmsConformance({
  describe,
  it,
  async create() {
    const kms = fakeKms()
    return {
      cmk: kms.cmk('one', { generates: true }),
      other: kms.cmk('two'),
      rotate: async () => kms.rotate('one'),
      disable: async () => kms.deny('one'),
      enable: async () => kms.restore('one'),
    }
  },
})

keyStoreConformance({
  describe,
  it,
  async create() {
    const store = memoryKeyStore()
    return { store, second: store }
  },
})

it('tells by describe what a test did to a CMK of a fakeKms', async () => {
  const kms = fakeKms()
  const cmk = kms.cmk('one')
  const request = { context: { tenant: 'a' }, signal: new AbortController().signal }
  const state = async () => (await cmk.describe?.(request))?.state
  expect(await state()).toBe('enabled')
  kms.deny('one', 'ERR_KMS_KEY_DISABLED')
  expect(await state()).toBe('disabled')
  const deletesAt = new Date('2026-12-24')
  kms.scheduleDeletion('one', deletesAt)
  expect(await cmk.describe?.(request)).toMatchObject({ state: 'pending-deletion', deletesAt })
  kms.deny('one')
  await expect(state()).rejects.toMatchObject({ code: 'ERR_KMS_ACCESS_DENIED' })
  kms.restore('one')
  expect(await cmk.describe?.(request)).toEqual({ state: 'enabled', currentVersion: '1' })
})
