import { randomBytes, randomUUID } from 'node:crypto'
import type { ControlState, Propagation } from '../shared/control.ts'
import type { JsonAnswer } from './aws-call.ts'
import { AwsFailure } from './aws-failure.ts'

/** https://docs.aws.amazon.com/kms/latest/developerguide/key-state.html */
export type AwsKeyState = 'Enabled' | 'Disabled' | 'PendingDeletion' | 'PendingImport' | 'Creating' | 'Unavailable'

export interface AwsMaterial {
  /** 64 hex digits. */
  readonly id: string
  readonly key: Uint8Array
}

export interface AwsKey {
  readonly id: string
  readonly account: string
  /** The Regions that have it; more than one for a multi-Region key. The first holds the primary. */
  readonly regions: readonly string[]
  readonly createdAt: Date
  state: AwsKeyState
  deletesAt: Date | undefined
  /** Oldest first; the last one encrypts. All of them decrypt. */
  readonly materials: AwsMaterial[]
  /** What the custom key store says while it is `Unavailable`. */
  unavailableText: string
}

export interface CreateAwsKeyOptions extends Propagation {
  readonly account?: string
  readonly region?: string
  /** Replicas of a multi-Region key (`mrk-…`), in these Regions beside `region`. */
  readonly replicas?: readonly string[]
  readonly state?: AwsKeyState
  /** `alias/<name>`, in the same account and Region. */
  readonly alias?: string
  /** Automatic rotation. @defaultValue none */
  readonly rotateEveryMs?: number
}

/** The states of keys and aliases that a test may set. `key` is an ARN, an id or an alias. */
export interface AwsKeysControl {
  /** @returns the key's ARN in its first Region */
  createKey(options?: CreateAwsKeyOptions): string
  alias(name: string, key: string): void
  disable(key: string, options?: Propagation): void
  enable(key: string, options?: Propagation): void
  /** @defaultValue days 30 */
  scheduleDeletion(key: string, options?: Propagation & { readonly days?: number }): void
  /** Deleted, as after the waiting time: the key is not found. */
  destroy(key: string): void
  setState(key: string, state: AwsKeyState, unavailableText?: string): void
  /** New material with a new id; older material still decrypts. */
  rotate(key: string): string
}

export interface AwsKeys extends AwsKeysControl {
  /** As a request names it. @throws AwsFailure NotFoundException */
  find(keyId: string, region: string): AwsKey
  byId(id: string): AwsKey | undefined
  arnOf(key: AwsKey, region: string): string
}

export const DEFAULT_ACCOUNT = '111122223333'
export const DEFAULT_REGION = 'eu-west-1'

export function createAwsKeys(control: ControlState<JsonAnswer>): AwsKeys {
  const keys = new Map<string, AwsKey>()
  const aliases = new Map<string, string>()

  function any(name: string): AwsKey {
    const region = /^arn:aws[a-z-]*:kms:([a-z0-9-]+):/.exec(name)?.[1] ?? DEFAULT_REGION
    const [id = ''] = name.split('/').slice(-1)
    return keys.get(id) ?? store.find(name, region)
  }

  const store: AwsKeys = {
    createKey({
      account = DEFAULT_ACCOUNT,
      region = DEFAULT_REGION,
      replicas,
      state = 'Enabled',
      alias,
      rotateEveryMs,
      ...propagation
    } = {}) {
      const id = replicas === undefined ? randomUUID() : `mrk-${randomBytes(16).toString('hex')}`
      const key: AwsKey = {
        id,
        account,
        regions: [region, ...(replicas ?? [])],
        createdAt: new Date(),
        state,
        deletesAt: undefined,
        materials: [newMaterial()],
        unavailableText: '',
      }
      control.propagate(() => keys.set(id, key), propagation)
      if (rotateEveryMs !== undefined) control.every(rotateEveryMs, () => key.materials.push(newMaterial()))
      if (alias !== undefined) aliases.set(`${region} ${alias}`, id)
      return store.arnOf(key, region)
    },
    alias(name, key) {
      const target = any(key)
      for (const region of target.regions) aliases.set(`${region} ${name}`, target.id)
    },
    disable: (key, options) => control.propagate(() => void (any(key).state = 'Disabled'), options),
    enable: (key, options) => control.propagate(() => void (any(key).state = 'Enabled'), options),
    scheduleDeletion(key, { days = 30, ...options } = {}) {
      control.propagate(() => {
        const target = any(key)
        target.state = 'PendingDeletion'
        target.deletesAt = new Date(Date.now() + days * 86_400_000)
      }, options)
    },
    destroy: (key) => void keys.delete(any(key).id),
    setState(key, state, unavailableText = '') {
      const target = any(key)
      target.state = state
      target.unavailableText = unavailableText
    },
    rotate(key) {
      const material = newMaterial()
      any(key).materials.push(material)
      return material.id
    },
    find(keyId, region) {
      const [, arnRegion, arnName] = /^arn:aws[a-z-]*:kms:([a-z0-9-]+):\d{12}:(.+)$/.exec(keyId) ?? []
      const name = arnName ?? keyId
      const id = name.startsWith('alias/') ? aliases.get(`${arnRegion ?? region} ${name}`) : name.replace(/^key\//, '')
      const key = id === undefined ? undefined : keys.get(id)
      const expired = key?.deletesAt !== undefined && key.deletesAt.getTime() <= Date.now()
      if (key === undefined || expired || !key.regions.includes(region) || (arnRegion ?? region) !== region)
        throw new AwsFailure('NotFoundException', `Key '${keyId}' does not exist`)
      return key
    },
    byId: (id) => keys.get(id),
    arnOf: (key, region) => `arn:aws:kms:${region}:${key.account}:key/${key.id}`,
  }
  return store
}

/** @throws AwsFailure with the texts of the key-state table */
export function assertUsable(key: AwsKey, arn: string): void {
  switch (key.state) {
    case 'Enabled':
      return
    case 'Disabled':
      throw new AwsFailure('DisabledException', `${arn} is disabled.`)
    case 'PendingDeletion':
      throw new AwsFailure('KMSInvalidStateException', `${arn} is pending deletion.`)
    case 'PendingImport':
      throw new AwsFailure('KMSInvalidStateException', `${arn} is pending import.`)
    case 'Creating':
      throw new AwsFailure('KMSInvalidStateException', `${arn} is creating.`)
    case 'Unavailable':
      throw new AwsFailure('KMSInvalidStateException', `${arn} is unavailable. ${key.unavailableText}`.trim())
  }
}

function newMaterial(): AwsMaterial {
  return { id: randomBytes(32).toString('hex'), key: randomBytes(32) }
}
