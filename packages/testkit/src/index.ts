export { fakeClock, type FakeClock } from './fake-clock.ts'
export { fakeKms, type FakeCmkOptions, type FakeKms, type FakeKmsCall } from './fake-kms.ts'
export {
  keyStoreConformance,
  type KeyStoreConformanceOptions,
  type KeyStoresUnderTest,
} from './key-store-conformance.ts'
export { kmsConformance, type KmsConformanceOptions, type KmsUnderTest } from './kms-conformance.ts'
export { leakOracle, type LeakHit, type LeakOracle, type LeakOracleOptions } from './leak-oracle.ts'
export { memoryKeyStore, type MemoryKeyStore } from './memory-key-store.ts'
export { memoryRecordSource, type MemoryRecordSource, type MemoryRow } from './memory-record-source.ts'
export type { TestRunner } from './test-runner.ts'
