import type { KeyObject } from 'node:crypto'
import {
  changeIndex as changeIndexOf,
  type IndexChange,
  type IndexEpochs,
  indexEpochs as indexEpochsOf,
} from './blind-index/index-epochs.ts'
import type { IndexDescription } from './blind-index/index-shape.ts'
import { DEFAULT_KEYSPACE } from './context/keyspace.ts'
import { checkedTenant, SHARED_TENANT, SINGLE_TENANT } from './context/tenant-id.ts'
import type { RecordId } from './context/record-id.ts'
import type { Fieldseal } from './fieldseal.ts'
import { internalsOf, type Internals } from './internals.ts'
import { changeKek as changeKekOf, denyKey as denyKeyOf, type KekChange, type KekChanged } from './keyring/kek-life.ts'
import { findKeyRecord, type KeyInfo, listKeyRecords } from './keyring/key-list.ts'
import { rotateKek, type RotatedKek } from './keyring/rotate-kek.ts'
import { rewrapChildren as rewrapChildrenOf, type RewrappedChildren } from './keyring/rewrap-children.ts'
import { withLiveKeys } from './keyring/with-live-keys.ts'
import { rotateCmk as rotateCmkOf, type RotatedCmk } from './keyring/rotate-cmk.ts'
import type { KeyspaceRef } from './keys/key-store.ts'
import type { Denial } from './keys/records.ts'
import { isZeroedKey } from './keys/secret-key.ts'
import { built } from './record/blind-index-of-model.ts'
import type { BlindIndex, Row } from './record/ports.ts'
import { reEncryptRows as reEncryptRowsOf } from './record/re-encrypt-rows.ts'
import type { RewrittenRow } from './record/rewritten.ts'
import { rewrapRows as rewrapRowsOf, type RewrapRowsOptions } from './record/rewrap-rows.ts'
import {
  type DigestedRow,
  digestRows as digestRowsOf,
  type TokenedRow,
  tokenRows as tokenRowsOf,
} from './record/token-rows.ts'
import { type RowToVerify, type VerifiedRow, verifyRows as verifyRowsOf } from './record/verify-rows.ts'
import type { OperationContext } from './tenant/tenant-context.ts'

type AnyFieldseal = Fieldseal<never> | Fieldseal

/** Walks the key records of one tenant, or of all, as the key store tells them: for reports and plans. */
export function listKeys(
  fieldseal: AnyFieldseal,
  { tenant }: { readonly tenant?: string } = {},
): AsyncIterable<KeyInfo> {
  const internals = open(fieldseal)
  const own = internals.tenancy === 'single' ? SINGLE_TENANT : tenant
  return listKeyRecords(internals.keyStore, internals.app, own)
}

/** One key record by its id, undefined when this application has none. */
export async function findKey(fieldseal: AnyFieldseal, id: RecordId): Promise<KeyInfo | undefined> {
  const { keyStore, app } = open(fieldseal)
  return findKeyRecord(keyStore, app, id)
}

/** Changes the state of a KEK, under a renewed MAC. See `keyring/kek-life.ts`. */
export async function changeKek(fieldseal: AnyFieldseal, id: RecordId, change: KekChange): Promise<KekChanged> {
  const { act, app, settings } = open(fieldseal)
  return act({ operation: 'change-key', kekId: id, to: change.to }, () => changeKekOf(app, id, change, settings))
}

/** Restricts a key without it, or takes that back with `undefined`. See `keyring/kek-life.ts`. */
export async function denyKey(fieldseal: AnyFieldseal, id: RecordId, denial: Denial | undefined): Promise<KekChanged> {
  const { act, app, settings } = open(fieldseal)
  return act({ operation: 'deny-key', kekId: id, to: denial ?? 'none' }, () => denyKeyOf(app, id, denial, settings))
}

/** Wraps a tenant's KEKs anew by the newest version of their CMKs. See `keyring/rotate-cmk.ts`. */
export async function rotateCmk(
  fieldseal: AnyFieldseal,
  { tenant: asked, acrossTenants }: { readonly tenant?: string; readonly acrossTenants?: boolean } = {},
): Promise<RotatedCmk> {
  const { act, app, tenancy, keyrings, settings } = open(fieldseal)
  const own = tenancy === 'single' ? SINGLE_TENANT : acrossTenants === true ? SHARED_TENANT : checkedTenant(asked)
  return act({ operation: 'rotate-cmk', tenant: own }, () => rotateCmkOf(app, own, keyrings, settings))
}

/** Wraps the keys of a tenant's data subjects by the tenant's newest KEK. See `keyring/rewrap-children.ts`. */
export async function rewrapChildren(
  fieldseal: AnyFieldseal,
  { tenant: asked }: { readonly tenant?: string } = {},
): Promise<RewrappedChildren> {
  const { act, app, tenancy, keyrings, settings } = open(fieldseal)
  const tenant = tenancy === 'single' ? SINGLE_TENANT : checkedTenant(asked)
  return act({ operation: 'rewrap-children', tenant }, () => rewrapChildrenOf(app, tenant, keyrings, settings))
}

/** The id of the KEK that new values of a keyspace are wrapped by; makes it where there is none. */
export async function newestKekId(
  fieldseal: AnyFieldseal,
  { tenant, keyspace }: { readonly tenant: string; readonly keyspace: string },
): Promise<RecordId> {
  const { app, keyrings } = open(fieldseal)
  return (await keyrings.toWrap({ app, tenant, keyspace }, 'wrap')).record.id
}

/** Wraps the DEKs of stored rows anew, one look-up of keys for all. See `record/rewrap-rows.ts`. */
export async function rewrapRows(
  fieldseal: AnyFieldseal,
  rows: readonly Row<unknown>[],
  context: OperationContext,
  options: RewrapRowsOptions = {},
): Promise<readonly RewrittenRow[]> {
  const internals = open(fieldseal)
  return inContext(internals, context, () => rewrapRowsOf(rows, options, rewriteDeps(internals)))
}

/** Encrypts the values of stored rows anew where one of `kekIds` has wrapped their DEK. See `record/re-encrypt-rows.ts`. */
export async function reEncryptRows(
  fieldseal: AnyFieldseal,
  rows: readonly Row<unknown>[],
  context: OperationContext,
  kekIds: ReadonlySet<RecordId>,
): Promise<readonly RewrittenRow[]> {
  const internals = open(fieldseal)
  return inContext(internals, context, () => reEncryptRowsOf(rows, kekIds, rewriteDeps(internals)))
}

/** Opens every value of stored rows and compares every token. See `record/verify-rows.ts`. */
export async function verifyRows(
  fieldseal: AnyFieldseal,
  rows: readonly RowToVerify[],
  context: OperationContext,
): Promise<readonly VerifiedRow[]> {
  const internals = open(fieldseal)
  return inContext(internals, context, () => verifyRowsOf(rows, context, verifyDeps(internals)))
}

/** Gives stored rows the tokens of all live epochs, and no others. See `record/token-rows.ts`. */
export async function tokenRows(
  fieldseal: AnyFieldseal,
  rows: readonly RowToVerify[],
  context: OperationContext,
  compares = false,
): Promise<readonly TokenedRow[]> {
  const internals = open(fieldseal)
  return inContext(internals, context, () => tokenRowsOf(rows, context, verifyDeps(internals), compares))
}

/** Tells which rows the newest shape of an index would make equal. See `record/token-rows.ts`. */
export async function digestRows(
  fieldseal: AnyFieldseal,
  rows: readonly Row<unknown>[],
  context: OperationContext,
  options: { readonly index: BlindIndex; readonly key: KeyObject },
): Promise<readonly DigestedRow[]> {
  const internals = open(fieldseal)
  return inContext(internals, context, () => digestRowsOf(rows, context, options, verifyDeps(internals)))
}

/** Which index of which tenant: none is named in tenancy `single`, nor where the index is one for all tenants. */
export interface IndexTarget {
  readonly index: BlindIndex
  readonly tenant?: string
  /** Index keys that are to be left, beside shapes that are not the newest. @defaultValue [] */
  readonly leaving?: readonly RecordId[]
  /** For a change: numbers of the live epochs when the caller decided on it. @defaultValue whatever they are */
  readonly expected?: readonly number[]
}

/** Where an index of a tenant stands; undefined when it has no epoch yet. See `blind-index/index-epochs.ts`. */
export async function indexEpochs(fieldseal: AnyFieldseal, target: IndexTarget): Promise<IndexEpochs | undefined> {
  const internals = open(fieldseal)
  return indexEpochsOf(indexRefOf(internals, target), describe(target), leavingOf(target), epochDeps(internals))
}

/** Moves an index of a tenant by one stage. See `blind-index/index-epochs.ts`. */
export async function changeIndex(
  fieldseal: AnyFieldseal,
  target: IndexTarget,
  change: IndexChange,
): Promise<'changed' | 'unchanged'> {
  const internals = open(fieldseal)
  const ref = indexRefOf(internals, target)
  const to = `${target.index.model}.${target.index.id} ${change}`
  return internals.act({ operation: 'change-index', tenant: ref.tenant, to }, () =>
    changeIndexOf(
      ref,
      describe(target),
      change,
      { leaving: leavingOf(target), expected: target.expected },
      epochDeps(internals),
    ),
  )
}

/** Gives a tenant, or all together, a new KEK for index keys where the newest is one of `leaving`. No token is touched. */
export async function rotateIndexKey(
  fieldseal: AnyFieldseal,
  {
    tenant: asked,
    acrossTenants,
    leaving,
  }: {
    readonly tenant?: string
    readonly acrossTenants?: boolean
    readonly leaving: readonly RecordId[]
  },
): Promise<RotatedKek> {
  const { act, app, tenancy, keyrings, settings } = open(fieldseal)
  const tenant = tenancy === 'single' ? SINGLE_TENANT : acrossTenants === true ? SHARED_TENANT : checkedTenant(asked)
  return act({ operation: 'rotate-index-key', tenant }, () =>
    rotateKek({ app, tenant, keyspace: DEFAULT_KEYSPACE }, keyrings, settings, {
      purpose: 'index',
      leaving: new Set(leaving),
    }),
  )
}

/** The name of the application that a Fieldseal was made for. */
export function appOf(fieldseal: AnyFieldseal): string {
  return open(fieldseal).app
}

/** Milliseconds of a clock that nobody sets. */
export function monotonicOf(fieldseal: AnyFieldseal): number {
  return open(fieldseal).settings.clock.monotonic()
}

/** The clock of a Fieldseal, in epoch milliseconds. */
export function nowOf(fieldseal: AnyFieldseal): number {
  return open(fieldseal).settings.clock.now()
}

/**
 * No key is used before the audit trail has the entry of a system context. Rows are looked at again when a key was zeroed
 * meanwhile: that says nothing about any of them.
 */
async function inContext<O extends object>(
  { scope }: Internals,
  context: OperationContext,
  work: () => Promise<readonly O[]>,
): Promise<readonly O[]> {
  if (context.admitted !== undefined) await context.admitted
  return scope.run(context, () =>
    withLiveKeys(async () => {
      const outcomes = await work()
      for (const outcome of outcomes) if ('error' in outcome && isZeroedKey(outcome.error)) throw outcome.error
      return outcomes
    }),
  )
}

function open(fieldseal: AnyFieldseal): Internals {
  const internals = internalsOf(fieldseal)
  internals.assertOpen()
  return internals
}

function verifyDeps({ app, keyrings, settings, cellAudit, indexKeys }: Internals) {
  const { directKeys, directDeks } = settings
  return { app, keyrings, directKeys, directDeks, cellAudit, indexKeys }
}

function epochDeps({ app, keyrings, settings }: Internals) {
  return { app, keyrings, keyStore: settings.keyStore, random: settings.random }
}

function indexRefOf({ app, tenancy }: Internals, { index, tenant }: IndexTarget): KeyspaceRef {
  const own = index.acrossTenants ? SHARED_TENANT : tenancy === 'single' ? SINGLE_TENANT : checkedTenant(tenant)
  return { app, tenant: own, keyspace: DEFAULT_KEYSPACE }
}

function describe({ index }: IndexTarget): IndexDescription {
  return built.index(index).description
}

function leavingOf({ leaving = [] }: IndexTarget): ReadonlySet<RecordId> {
  return new Set(leaving)
}

function rewriteDeps({ app, keyrings, settings }: Internals) {
  const { directKeys, directDeks, random } = settings
  return { app, keyrings, directKeys, directDeks, random }
}
