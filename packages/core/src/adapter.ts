/** For authors of ORM adapters, key stores, migrations and test kits. */
export type { ErrorCode, ErrorKind } from './errors/codes.ts'
export { ERROR_CODES } from './errors/codes.ts'
export { FieldsealError, isFieldsealError, type ErrorDetails } from './errors/fieldseal-error.ts'
export type { EventBus, EventName, FieldsealEvents } from './observe/events.ts'
export type { KeyspaceRef, KeyStore } from './keys/key-store.ts'
export { recordFromJson, recordToJson } from './keys/record-json.ts'
export {
  keyspaceOf,
  slotOf,
  type DirectKeyRecord,
  type IndexRecord,
  type KekId,
  type KekRecord,
  type KeyStoreRecord,
  type RecordId,
  type StoredWrap,
} from './keys/records.ts'
export { attach, moveWraps, rotateKek } from './attach.ts'
export type { Fieldseal } from './fieldseal.ts'
export {
  appOf,
  changeIndex,
  changeKek,
  denyKey,
  digestRows,
  findKey,
  indexEpochs,
  type IndexTarget,
  listKeys,
  monotonicOf,
  newestKekId,
  nowOf,
  reEncryptRows,
  rewrapChildren,
  rewrapRows,
  rotateCmk,
  rotateIndexKey,
  tokenRows,
  verifyRows,
} from './maintenance.ts'
export type { KekChange, KekChanged } from './keyring/kek-life.ts'
export type { IndexChange, IndexEpochs, IndexStage } from './blind-index/index-epochs.ts'
export type { KeyInfo } from './keyring/key-list.ts'
export type { RotatedCmk } from './keyring/rotate-cmk.ts'
export type { RewrittenRow } from './record/rewritten.ts'
export type { RewrapRowsOptions } from './record/rewrap-rows.ts'
export type { DigestedRow, TokenedRow } from './record/token-rows.ts'
export type { RowToVerify, VerifiedRow } from './record/verify-rows.ts'
export type { MovedWraps } from './keyring/move-wraps.ts'
export type { RotatedKek } from './keyring/rotate-kek.ts'
export type { Adapter, AdapterHost, LoadOptions } from './record/adapter-host.ts'
export type {
  BlindIndexOptions,
  CompoundIndexOptions,
  FieldOptions,
  FieldState,
  ModelOptions,
  IndexShapeOptions,
  Normalizer,
  NormalizerName,
  PlainScalar,
  UniqueWhere,
} from './record/options.ts'
export { isEnvelopeText, isPlainCell, plainCell, type PlainCell } from './record/plain-cell.ts'
export type {
  BlindIndex,
  Cell,
  Envelope,
  Field,
  FieldDeclaration,
  FieldPath,
  IndexToken,
  LeakGuard,
  ModelDeclaration,
  OpenedRow,
  PatchedCell,
  PlainEquality,
  RecordCipher,
  RecordMap,
  RecordWriter,
  RewrapQueue,
  RewrittenCell,
  Row,
  RowFacts,
  RowPatch,
  SealedRow,
  StoredCell,
  TokenTerm,
} from './record/ports.ts'
export type { CheckpointStore, Converted, PageOptions, RecordSource, StoredRow } from './record/record-source.ts'
export { SoughtTokens } from './record/sought-tokens.ts'
export type { RowId, RowKeyKind } from './record/row-id.ts'
export { isEnvelope } from './envelope/parse.ts'
export { envelopeFromText, envelopeToText, TEXT_PREFIX } from './envelope/text-form.ts'
export type { ValueCodec } from './field/codec.ts'
export type { OperationContext, SystemContext } from './tenant/tenant-context.ts'
export { tokenSlot, type TokenSlot } from './blind-index/token.ts'
export { isUnreadable } from './record/unreadable.ts'
