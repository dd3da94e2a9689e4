import type { EventBus } from '../observe/events.ts'
import type { KeyStore } from '../keys/key-store.ts'
import type { ValueCodec } from '../field/codec.ts'
import type { OperationContext } from '../tenant/tenant-context.ts'
import type { LeakGuard, ModelDeclaration, RecordCipher, RecordMap, RewrapQueue } from './ports.ts'

/** Who attaches: shown in errors, and the codecs that only this adapter has. */
export interface Adapter {
  readonly name: string
  readonly ormVersion: string
  readonly codecs?: readonly ValueCodec[]
  /** True when the adapter keeps the states of fields; otherwise fields that are not `encrypted` are refused. @defaultValue false */
  readonly fieldStates?: boolean
  /** True when the adapter keeps tokens of several fields together; otherwise compound indexes are refused. @defaultValue false */
  readonly compoundIndexes?: boolean
  /** Called first by `fieldseal.flush()`; throws where waiting for rewraps would wait for the caller's own transaction. */
  beforeFlush?(): void
}

/** What an ORM adapter gets from core: it translates between its ORM and rows of cells, core knows keys, tenants, formats. */
export interface AdapterHost {
  readonly tenancy: 'single' | 'multi'
  readonly cipher: RecordCipher
  readonly rewraps: RewrapQueue
  readonly guard: LeakGuard
  readonly keyStore: KeyStore
  readonly events: EventBus
  /** Validates all options of a model. @throws FieldsealError ERR_CONFIG_INVALID, naming model, field and option */
  defineModel(model: ModelDeclaration): RecordMap
  /** The caller's context; take it when a query is created. @throws FieldsealError ERR_TENANT_MISSING */
  capture(): OperationContext
  /** The caller's context, or undefined where there is none. */
  captureIfAny(): OperationContext | undefined
  /** Runs a query in the context captured when it was made; further queries that the ORM makes meanwhile capture the same one. */
  run<R>(context: OperationContext | undefined, fn: () => R): R
  /**
   * Loads the keys that the maps need for the context's tenant, before a connection is taken or a transaction opened;
   * makes missing ones for a write. Does nothing for keyspaces that only rows can name, unless they are given.
   */
  load(maps: readonly RecordMap[], context: OperationContext, options?: LoadOptions): Promise<void>
}

export interface LoadOptions {
  /** @defaultValue 'write' */
  readonly use?: 'read' | 'write'
  /** Keyspaces of rows at hand. */
  readonly keyspaces?: readonly string[]
  readonly via?: unknown
}
