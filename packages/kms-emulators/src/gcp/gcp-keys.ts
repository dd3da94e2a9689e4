import { randomBytes } from 'node:crypto'
import { grpc } from 'google-gax'
import type { ControlState, Propagation } from '../shared/control.ts'
import { GrpcFailure } from './grpc-failure.ts'
import type { GcpAnswer } from './gcp-answer.ts'

/** google.cloud.kms.v1.CryptoKeyVersion.CryptoKeyVersionState */
export type GcpVersionState =
  | 'ENABLED'
  | 'DISABLED'
  | 'DESTROY_SCHEDULED'
  | 'DESTROYED'
  | 'PENDING_GENERATION'
  | 'PENDING_IMPORT'

export interface GcpVersion {
  readonly number: number
  readonly createdAt: Date
  key: Uint8Array
  state: GcpVersionState
  destroyAt: Date | undefined
}

export interface GcpKey {
  /** `projects/…/locations/…/keyRings/…/cryptoKeys/…` */
  readonly name: string
  /** 8 bytes that stand in every ciphertext, so that a foreign one is told apart. */
  readonly tag: Uint8Array
  readonly versions: GcpVersion[]
  primary: number
  readonly protectionLevel: 'SOFTWARE' | 'HSM'
}

export interface CreateGcpKeyOptions extends Propagation {
  readonly protectionLevel?: GcpKey['protectionLevel']
  readonly state?: GcpVersionState
  /** Automatic rotation. @defaultValue none */
  readonly rotateEveryMs?: number
}

/** The states of keys that a test may set. `version` is the primary one unless named. */
export interface GcpKeysControl {
  /** @defaultValue name: a fresh one in project `tenant` @returns the key's name */
  createKey(name?: string, options?: CreateGcpKeyOptions): string
  disable(key: string, options?: VersionOptions): void
  enable(key: string, options?: VersionOptions): void
  /** @defaultValue days 30 */
  scheduleDeletion(key: string, options?: VersionOptions & { readonly days?: number }): void
  /** Destroyed at once, without the waiting time. */
  destroy(key: string, options?: VersionOptions): void
  setState(key: string, state: GcpVersionState, options?: VersionOptions): void
  /** A new version, primary after `afterMs`. @returns its number */
  rotate(key: string, options?: Propagation): string
}

export interface VersionOptions extends Propagation {
  readonly version?: number
}

export interface GcpKeys extends GcpKeysControl {
  /** @throws GrpcFailure NOT_FOUND */
  find(name: string): GcpKey
}

const DAY_MS = 86_400_000

export function createGcpKeys(control: ControlState<GcpAnswer>): GcpKeys {
  const keys = new Map<string, GcpKey>()

  function change(name: string, options: VersionOptions | undefined, run: (version: GcpVersion) => void): void {
    const key = store.find(name)
    const version = versionOf(key, options?.version ?? key.primary)
    control.propagate(() => run(version), options)
  }

  const store: GcpKeys = {
    createKey(name, { protectionLevel = 'SOFTWARE', state = 'ENABLED', rotateEveryMs, ...propagation } = {}) {
      const full =
        name ??
        `projects/tenant/locations/europe-west1/keyRings/fieldseal/cryptoKeys/k${randomBytes(4).toString('hex')}`
      const key: GcpKey = {
        name: full,
        tag: randomBytes(8),
        versions: [newVersion(1, state)],
        primary: 1,
        protectionLevel,
      }
      control.propagate(() => keys.set(full, key), propagation)
      if (rotateEveryMs !== undefined) control.every(rotateEveryMs, () => void store.rotate(full))
      return full
    },
    disable: (key, options) => store.setState(key, 'DISABLED', options),
    enable: (key, options) => store.setState(key, 'ENABLED', options),
    scheduleDeletion(key, { days = 30, ...options } = {}) {
      change(key, options, (version) => {
        version.state = 'DESTROY_SCHEDULED'
        version.destroyAt = new Date(Date.now() + days * DAY_MS)
      })
    },
    destroy(key, options) {
      change(key, options, (version) => {
        version.state = 'DESTROYED'
        version.key = new Uint8Array(0)
      })
    },
    setState(key, state, options) {
      change(key, options, (version) => {
        version.state = state
        version.destroyAt = undefined
      })
    },
    rotate(name, options) {
      const key = store.find(name)
      const version = newVersion(key.versions.length + 1, 'ENABLED')
      key.versions.push(version)
      control.propagate(() => void (key.primary = version.number), options)
      return String(version.number)
    },
    find(name) {
      const key = keys.get(name)
      if (key === undefined) throw new GrpcFailure(grpc.status.NOT_FOUND, `CryptoKey ${name} not found.`)
      return key
    },
  }
  return store
}

/** @throws GrpcFailure NOT_FOUND */
export function versionOf(key: GcpKey, number: number): GcpVersion {
  const version = key.versions[number - 1]
  if (version === undefined) {
    throw new GrpcFailure(grpc.status.NOT_FOUND, `CryptoKeyVersion ${key.name}/cryptoKeyVersions/${number} not found.`)
  }
  return version
}

/** @throws GrpcFailure FAILED_PRECONDITION with a violation that names the state */
export function assertVersionEnabled(key: GcpKey, version: GcpVersion): void {
  const state =
    version.destroyAt !== undefined && version.destroyAt.getTime() <= Date.now() ? 'DESTROYED' : version.state
  if (state === 'ENABLED') return
  const name = `${key.name}/cryptoKeyVersions/${version.number}`
  throw new GrpcFailure(grpc.status.FAILED_PRECONDITION, `${name} is not enabled, current state is: ${state}.`, {
    violations: [{ type: `KEY_${state}`, subject: name }],
  })
}

function newVersion(number: number, state: GcpVersionState): GcpVersion {
  return { number, createdAt: new Date(), key: randomBytes(32), state, destroyAt: undefined }
}
