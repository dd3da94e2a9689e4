import { checkedTenant, SHARED_TENANT, SINGLE_TENANT } from './context/tenant-id.ts'
import type { RecordId } from './context/record-id.ts'
import type { Fieldseal } from './fieldseal.ts'
import { internalsOf, type Internals } from './internals.ts'
import { changeKek as changeKekOf, denyKey as denyKeyOf, type KekChange, type KekChanged } from './keyring/kek-life.ts'
import { findKeyRecord, type KeyInfo, listKeyRecords } from './keyring/key-list.ts'
import { rotateCmk as rotateCmkOf, type RotatedCmk } from './keyring/rotate-cmk.ts'
import type { Denial } from './keys/records.ts'
import type { Row } from './record/ports.ts'
import { reEncryptRows as reEncryptRowsOf } from './record/re-encrypt-rows.ts'
import { rewrapRows as rewrapRowsOf, type RewrapRowsOptions, type RewrittenRow } from './record/rewrap-rows.ts'
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
  return internals.scope.run(context, () => rewrapRowsOf(rows, options, rewriteDeps(internals)))
}

/** Encrypts the values of stored rows anew where one of `kekIds` has wrapped their DEK. See `record/re-encrypt-rows.ts`. */
export async function reEncryptRows(
  fieldseal: AnyFieldseal,
  rows: readonly Row<unknown>[],
  context: OperationContext,
  kekIds: ReadonlySet<RecordId>,
): Promise<readonly RewrittenRow[]> {
  const internals = open(fieldseal)
  return internals.scope.run(context, () => reEncryptRowsOf(rows, kekIds, rewriteDeps(internals)))
}

/** Opens every value of stored rows and compares every token. See `record/verify-rows.ts`. */
export async function verifyRows(
  fieldseal: AnyFieldseal,
  rows: readonly RowToVerify[],
  context: OperationContext,
): Promise<readonly VerifiedRow[]> {
  const internals = open(fieldseal)
  const { app, keyrings, settings, cellAudit, indexKeys } = internals
  const { directKeys, directDeks } = settings
  return internals.scope.run(context, () =>
    verifyRowsOf(rows, context, { app, keyrings, directKeys, directDeks, cellAudit, indexKeys }),
  )
}

/** The name of the application that a Fieldseal was made for. */
export function appOf(fieldseal: AnyFieldseal): string {
  return open(fieldseal).app
}

/** The clock of a Fieldseal, in epoch milliseconds. */
export function nowOf(fieldseal: AnyFieldseal): number {
  return open(fieldseal).settings.clock.now()
}

function open(fieldseal: AnyFieldseal): Internals {
  const internals = internalsOf(fieldseal)
  internals.assertOpen()
  return internals
}

function rewriteDeps({ app, keyrings, settings }: Internals) {
  const { directKeys, directDeks, random } = settings
  return { app, keyrings, directKeys, directDeks, random }
}
