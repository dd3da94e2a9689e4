import { DEFAULT_KEYSPACE } from '../context/keyspace.ts'
import type { KekId, RecordId } from '../context/record-id.ts'

export type { KekId, RecordId }

/** Life of a KEK. Readable: `active` and `decrypt-only`; wraps new DEKs: `active`. */
export type KekState = 'active' | 'decrypt-only' | 'retired' | 'pending-destruction' | 'destroyed'
export type KekPurpose = 'wrap' | 'index'
/** Written without the key, able only to restrict; removed to undo. */
export type Denial = 'retired' | 'pending-destruction' | 'destroyed'

/** The facts of a KEK that its MAC covers. Instants are epoch milliseconds. */
export interface KekFacts {
  readonly id: KekId
  readonly kind: 'kek'
  readonly app: string
  readonly tenant: string
  readonly keyspace: string
  readonly purpose: KekPurpose
  /** Counts up from 1 within (tenant, keyspace, purpose). */
  readonly version: number
  /** Counts up with every change of the facts; a lower one than a process has checked is ignored. */
  readonly revision: number
  readonly state: KekState
  readonly createdAt: number
  readonly notAfter?: number
  readonly destroyAt?: number
  /** The tenant's KEK that wraps this one (keyspaces per data subject); absent = wrapped by CMKs. */
  readonly parent?: KekId
  /** No more wraps under it; reading goes on. */
  readonly compromised: boolean
}

/** One wrap of a KEK by one CMK, or by the parent KEK (provider `kek`, uri = the parent's id). */
export interface StoredWrap {
  readonly provider: string
  readonly uri: string
  readonly blob: Uint8Array
  readonly keyVersion?: string
  readonly versionEvidence: 'reported' | 'requested' | 'parsed' | 'unknown'
  readonly wrappedAt: number
}

interface Versioned {
  /** Counts up with every update of the stored row; starts at 1. */
  readonly rowVersion: number
}

/** A KEK as stored. `destroyed` records stay as tombstones without wraps. */
export interface KekRecord extends KekFacts, Versioned {
  /** 32 bytes. */
  readonly mac: Uint8Array
  readonly wraps: readonly StoredWrap[]
  readonly denial?: Denial
}

/** Names the CMK that wraps the DEKs of a keyspace in mode `direct`. Holds no key, so it has no MAC. */
export interface DirectKeyRecord extends Versioned {
  readonly id: RecordId
  readonly kind: 'direct'
  readonly app: string
  readonly tenant: string
  readonly keyspace: string
  readonly provider: string
  readonly uri: string
  readonly createdAt: number
  readonly denial?: Denial
}

/**
 * What an epoch is for. `current`: written with every value and looked up. `next`: written, not looked up yet. `old`:
 * neither, its tokens are cleared; the record stays, so that its number is not used again. Of two that are `current`
 * look-ups ask the higher one.
 */
export type IndexRole = 'current' | 'next' | 'old'
/** A live epoch is written with every value. */
export type LiveRole = Exclude<IndexRole, 'old'>

export const FIRST_EPOCH = 1
/** An epoch is one byte of its tokens. */
export const LAST_EPOCH = 255

/** One epoch of one blind index of one tenant. */
export interface IndexRecord extends Versioned {
  readonly id: RecordId
  readonly kind: 'index'
  readonly app: string
  readonly tenant: string
  readonly model: string
  readonly index: string
  /** 1–255, never reused. */
  readonly epoch: number
  readonly kekId: KekId
  /** `normaliser@version`; for a compound index those of its components joined by `+`. */
  readonly normalizer: string
  readonly bits: number
  readonly role: IndexRole
  readonly revision: number
  /** 32 bytes. */
  readonly mac: Uint8Array
}

export type KeyStoreRecord = KekRecord | DirectKeyRecord | IndexRecord

/** The keyspace under which a record is loaded; index records stand with the tenant's default keyspace. */
export function keyspaceOf(record: KeyStoreRecord): string {
  return record.kind === 'index' ? DEFAULT_KEYSPACE : record.keyspace
}

/**
 * The place of a record that no second record may take, as a text for a unique index: two processes that make the
 * first KEK of a tenant at the same time end with one. At most 2,600 UTF-8 bytes.
 */
export function slotOf(record: KeyStoreRecord): string {
  switch (record.kind) {
    case 'kek':
      return JSON.stringify(['kek', record.app, record.tenant, record.keyspace, record.purpose, record.version])
    case 'direct':
      return JSON.stringify(['direct', record.app, record.tenant, record.keyspace, record.provider, record.uri])
    case 'index':
      return JSON.stringify(['index', record.app, record.tenant, record.model, record.index, record.epoch])
  }
}
