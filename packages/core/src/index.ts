/** For applications. */
export { REGULATED_CACHE, type KeyCacheOptions, type RevocationBound } from './cache/options.ts'
export type { Clock } from './cache/clock.ts'
export { createFieldseal } from './create-fieldseal.ts'
export type { ErrorCode, ErrorKind } from './errors/codes.ts'
export { FieldsealError, isFieldsealError, type ErrorDetails } from './errors/fieldseal-error.ts'
export type { HealthReport } from './health-report.ts'
export type { CmkHealth, TenantHealth } from './keyring/health.ts'
export type { Cmk, Kms } from './keys/cmk.ts'
export type { KeyStore } from './keys/key-store.ts'
export type { KeyRegistry, TenantKeys } from './keyring/tenant-keys.ts'
export type { AuditEvent, AuditOptions, AuditSink } from './observe/audit.ts'
export { type JsonLinesAudit, jsonLinesAudit, type JsonLinesAuditOptions } from './observe/json-lines-audit.ts'
export type { EventName, FieldsealEvents, HealthStatus, Listener } from './observe/events.ts'
export type {
  BlindIndexOptions,
  CompoundIndexOptions,
  FieldOptions,
  FieldState,
  ModelOptions,
  IndexShapeOptions,
  Normalizer,
  NormalizerName,
  UniqueWhere,
} from './record/options.ts'
export type { ActivateOptions, Fieldseal, FieldsealOptions, PrepareOptions, RunAs, Tenancy } from './fieldseal.ts'
export { isUnreadable } from './record/unreadable.ts'
