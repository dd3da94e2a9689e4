import {
  FieldsealError,
  isFieldsealError,
  type KekId,
  type KeyInfo,
  nowOf,
  rewrapChildren,
  rewrapRows,
} from '@fieldseal/core/adapter'
import type { RowVerb } from '../engine/batch.ts'
import type { Pace } from '../engine/pace.ts'
import { runJob } from '../engine/run-job.ts'
import type { Surroundings, Target, What } from '../engine/target.ts'
import { isKek, knownKeys, outdatedIds, versionsOf } from '../keys/key-versions.ts'
import { type Report, type TenantFailure, tenantFailure } from '../report/report.ts'

export interface RewrapOptions extends What, Pace {
  /** Binds values that are bound to no row to where they stand: that certifies the place they were found in. @defaultValue false */
  readonly bind?: boolean
}

/** Counting is cheaper than another walk while there are few keys to count. */
export const MAX_COUNTED_KEKS = 8

/** Wraps the DEKs of stored rows by what wraps new ones now. Values, tokens and bindings stay what they are. */
export async function rewrap(surroundings: Surroundings, options: RewrapOptions = {}): Promise<Report> {
  const { bind = false, tenant, model, field, keyspace, ...pace } = options
  const what = whatOf({ tenant, model, field, keyspace })
  const records = await knownKeys(surroundings, { tenant, keyspace })
  const outdated = outdatedIds(versionsOf(records, what), nowOf(surroundings.fieldseal))
  const compromised = records.filter((record) => isKek(record) && record.compromised && record.state !== 'destroyed')
  const verb: RowVerb = {
    name: bind ? 'rewrap-bind' : 'rewrap',
    converges: true,
    work: (rows, { context }) =>
      rewrapRows(
        surroundings.fieldseal,
        rows.map(({ row }) => row),
        context,
        { bind },
      ),
    remaining: bind ? async () => undefined : (target) => countRows(target, outdated, pace),
  }
  const notes = compromised.map(({ id }) => `values under the compromised key ${id} are left for re-encrypt`)
  const wholeTenants = model === undefined && field === undefined && keyspace === undefined
  const failures: TenantFailure[] = []
  let followed: Promise<void> | undefined
  return runJob(surroundings, {
    verb,
    what,
    pace,
    pinned: outdated.toSorted(),
    hint: 'running processes may still write under the older key: run it again',
    notes,
    failures,
    async opened() {
      if (wholeTenants && (pace.shard?.[0] ?? 1) === 1)
        await (followed ??= rewrapSubjects(surroundings, records, { notes, failures })) // once, whatever the number of sources
    },
  })
}

const ATTEMPTS = 5

/**
 * The keys of data subjects stand under a KEK of their tenant, as rows do: they follow it to the newest. What is wrong
 * with those of one tenant does not keep the others waiting.
 */
async function rewrapSubjects(
  { fieldseal, host }: Surroundings,
  records: readonly KeyInfo[],
  { notes, failures }: { readonly notes: string[]; readonly failures: TenantFailure[] },
): Promise<void> {
  const keks = records.filter(isKek)
  const tenants = new Set(keks.filter(({ parent }) => parent !== undefined).map(({ tenant }) => tenant))
  for (const tenant of tenants) {
    let rewrapped = 0
    try {
      for (let attempt = 1; ; attempt++) {
        const done = await rewrapChildren(fieldseal, host.tenancy === 'single' ? {} : { tenant })
        rewrapped += done.rewrapped
        if (attempt === 1 && done.left > 0)
          notes.push(`${done.left} keys of data subjects stand under a compromised key: re-encrypt`)
        if (done.changed === 0) break
        if (attempt < ATTEMPTS) continue
        const reason = `${done.changed} key records change again and again`
        const busy = new FieldsealError('ERR_KEY_STORE_UNAVAILABLE', { tenant, reason, hint: 'run it again' })
        failures.push(tenantFailure(busy, { tenant }))
        break
      }
    } catch (error) {
      if (!isFieldsealError(error) || error.kind === 'unavailable') throw error
      if (error.kind !== 'erased') failures.push(tenantFailure(error, { tenant })) // rows of an erased tenant do not remain either
      notes.push(`keys of data subjects of ${tenant} stay where they are: ${error.code}`)
    }
    if (rewrapped > 0) notes.push(`${rewrapped} keys of data subjects of ${tenant} were wrapped by its newest key`)
  }
}

/** Rows that need one of these KEKs; undefined where only a walk can tell. */
export async function countRows(target: Target, keks: readonly KekId[], pace: Pace): Promise<number | undefined> {
  const { source, map, what } = target
  const wholeTable = what.field === undefined && pace.shard === undefined
  // In mode `direct`, or while both layouts are read, there is more that can be outdated than a KEK.
  if (!wholeTable || map.mode !== 'kek' || map.layouts.size > 1 || keks.length > MAX_COUNTED_KEKS) return undefined
  let rows = 0
  for (const kekId of keks) {
    const counted = await source.count(map, { kekId })
    if (!counted.exact) return undefined
    rows += counted.rows
  }
  return rows
}

/** Without what is undefined: a scope is named and digested by what it says. */
export function whatOf(what: { readonly [K in keyof What]-?: What[K] | undefined }): What {
  return Object.fromEntries(Object.entries(what).filter(([, value]) => value !== undefined))
}
