import { describe, it } from 'vitest'
import { fakeKms, keyStoreConformance, kmsConformance, memoryKeyStore } from '../src/index.ts'

kmsConformance({
  describe,
  it,
  async create() {
    const kms = fakeKms()
    return {
      cmk: kms.cmk('one'),
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
