import {
  type Fieldseal,
  isFieldsealError,
  type KeyInfo,
  nowOf,
  type RecordMap,
  type RecordSource,
} from '@fieldseal/core/adapter'
import type { CmkHealth, TenantHealth } from '@fieldseal/core'
import type { Surroundings } from '../engine/target.ts'
import { isKek, isReadable, type KekInfo, keyRecords, newestOf, versionsOf } from '../keys/key-versions.ts'
import { rowsUnder } from '../keys/need.ts'
import { aboutIndexes } from './doctor-indexes.ts'

/** Something that is wrong, or will be. */
export interface Finding {
  readonly severity: 'error' | 'warning'
  /** Tenant, model, key or CMK. */
  readonly where: string
  readonly problem: string
  readonly fix: string
}

export interface DoctorOptions {
  readonly tenant?: string
}

const MAX_TENANTS = 1_000
/** Clocks of machines that are synchronised differ by less. */
const CLOCK_SKEW_MS = 300_000

/** Looks at everything that can be seen without opening a value: tables, keys, CMKs, clock. */
export async function doctor(surroundings: Surroundings, options: DoctorOptions = {}): Promise<readonly Finding[]> {
  const records = await keyRecords(surroundings, options.tenant)
  return [
    ...(options.tenant !== undefined && records.length === 0 ? [unknownTenant(options.tenant)] : []),
    ...(await aboutTables(surroundings)),
    ...aboutRecords(surroundings, records),
    ...(await aboutIndexes(surroundings, options.tenant)),
    ...(await aboutCmks(surroundings, records, options.tenant)),
  ]
}

/** Nothing is wrong with a tenant that does not exist. */
function unknownTenant(tenant: string): Finding {
  return {
    severity: 'warning',
    where: tenant,
    problem: 'the key store has no key of this tenant',
    fix: `check the spelling; of a new tenant: fieldseal activate --tenant ${tenant}`,
  }
}

/** Plaintext where none may be is an error; what is on its way is told of. */
async function plaintextIn(source: RecordSource, map: RecordMap): Promise<readonly Finding[]> {
  const wrong = (rows: number, where: string): Finding => ({
    severity: 'error',
    where,
    problem: `${rows} rows hold plaintext in an encrypted field`,
    fix: 'find out who writes them; then encrypt them with a field state of migrating',
  })
  const { rows: all } = await source.count(map, 'plaintext')
  if (source.countPlaintext === undefined || map.fields.every(({ state }) => state === 'encrypted'))
    return all > 0 ? [wrong(all, map.id)] : []
  const findings: Finding[] = []
  for (const field of map.fields) {
    const rows = await source.countPlaintext(map, field)
    if (rows === 0) continue
    const where = `${map.id}.${field.id}`
    if (field.state === 'encrypted') findings.push(wrong(rows, where))
    else
      findings.push({
        severity: 'warning',
        where,
        problem: `${rows} rows are not encrypted: the field is in state ${field.state}`,
        fix:
          field.state === 'plaintext'
            ? "backfill its tokens, then deploy state 'migrating'"
            : `fieldseal backfill --field ${where}; then deploy state 'encrypted'`,
      })
  }
  return findings
}

/** A model whose rows cannot be looked at is told of, and the others are looked at. */
async function aboutModel(source: RecordSource, map: RecordMap): Promise<readonly Finding[]> {
  const findings: Finding[] = []
  try {
    for (const { problem, fix } of await source.inspect(map))
      findings.push({ severity: 'error', where: map.id, problem, fix })
    findings.push(...(await plaintextIn(source, map)))
  } catch (error) {
    if (!isFieldsealError(error) || error.code !== 'ERR_CONFIG_INVALID') throw error
    const { reason = error.message, hint = '' } = error.details
    findings.push({ severity: 'error', where: map.id, problem: `its rows cannot be looked at: ${reason}`, fix: hint })
  }
  return findings
}

async function aboutTables({ sources }: Surroundings): Promise<readonly Finding[]> {
  const findings: Finding[] = []
  for (const source of sources) {
    for (const map of source.models) findings.push(...(await aboutModel(source, map)))
    try {
      await source.checkpoints.load('fieldseal doctor')
    } catch {
      findings.push({
        severity: 'error',
        where: 'checkpoints',
        problem: 'checkpoints cannot be read',
        fix: 'run the migration that makes the tables of Fieldseal, and grant access to them',
      })
    }
  }
  return findings
}

function aboutRecords({ fieldseal, sources, policy }: Surroundings, records: readonly KeyInfo[]): readonly Finding[] {
  const now = nowOf(fieldseal)
  const findings: Finding[] = []
  const ahead = records.filter((record) => 'createdAt' in record && record.createdAt > now + CLOCK_SKEW_MS)
  if (ahead.length > 0)
    findings.push({
      severity: 'warning',
      where: 'clock',
      problem: `${ahead.length} key records were made in the future of this machine's clock`,
      fix: 'synchronise the clocks: key ages, refreshes and destruction dates depend on them',
    })
  for (const group of versionsOf(records)) {
    const where = `${group.tenant} ${group.keyspace}`
    const live = group.versions.filter(isReadable)
    const newest = newestOf(group, now)
    if (group.purpose === 'wrap' && live.length > policy.maxLiveVersions)
      findings.push({
        severity: 'warning',
        where,
        problem: `${live.length} readable key versions, the policy allows ${policy.maxLiveVersions}`,
        fix: 'rewrap, then retire the old ones',
      })
    const days = newest === undefined ? undefined : (now - newest.createdAt) / 86_400_000
    if (group.purpose === 'wrap' && days !== undefined && days > policy.maxAgeDays)
      findings.push({
        severity: 'warning',
        where,
        problem: `its key is ${Math.floor(days)} days old, the policy says ${policy.maxAgeDays}`,
        fix: 'fieldseal rotate kek --due',
      })
  }
  const indexes = new Set(
    sources.flatMap(({ models }) => models.flatMap((map) => map.indexes.map((index) => `${map.id}.${index.id}`))),
  )
  for (const record of records)
    if (record.kind === 'index' && !indexes.has(`${record.model}.${record.index}`))
      findings.push({
        severity: 'warning',
        where: `${record.model}.${record.index}`,
        problem: `tenant ${record.tenant} has an index that no model of these sources describes`,
        fix: 'was the model renamed? set its id; else name its source in the configuration',
      })
  return findings
}

async function aboutCmks(
  surroundings: Surroundings,
  records: readonly KeyInfo[],
  tenant: string | undefined,
): Promise<readonly Finding[]> {
  const single = surroundings.host.tenancy === 'single'
  const asked = tenant === undefined ? [...new Set(records.map((record) => record.tenant))] : [tenant]
  const findings: Finding[] = []
  for (const one of asked.slice(0, MAX_TENANTS)) {
    if (one.startsWith('$') && !single) continue // keys across tenants have no registry entry
    const application = surroundings.fieldseal as Fieldseal<'multi'> // in tenancy `single` no tenant is given
    const own = records.filter((record): record is KekInfo => isKek(record) && record.tenant === one)
    const report = await application.health(...(single ? [] : [one]))
    for (const health of report.tenants) findings.push(...(await aboutTenant(surroundings, health, own)))
  }
  if (asked.length > MAX_TENANTS)
    findings.push({
      severity: 'warning',
      where: 'tenants',
      problem: `only ${MAX_TENANTS} of ${asked.length} tenants were asked about`,
      fix: 'name one with --tenant',
    })
  return findings
}

async function aboutTenant(
  surroundings: Surroundings,
  { tenant, code, cmks }: TenantHealth,
  keks: readonly KekInfo[],
): Promise<readonly Finding[]> {
  const findings: Finding[] = []
  if (code !== undefined)
    findings.push({
      severity: 'error',
      where: tenant,
      problem: `its keys cannot be asked about: ${code}`,
      fix: 'see the registry and the key store',
    })
  for (const cmk of cmks) {
    if (cmk.status === 'healthy' || cmk.status === 'unknown') continue
    const blast = await blastRadius(surroundings, cmk, keks)
    findings.push({
      severity: cmk.role === 'former' && blast.keys === 0 ? 'warning' : 'error',
      where: `${tenant} ${cmk.provider} ${cmk.uri}`,
      problem: `${cmk.status}${cmk.code === undefined ? '' : ` (${cmk.code})`}${deletion(cmk)}; ${blast.keys} keys and ${blast.rows} rows need it`,
      fix:
        cmk.status === 'pending-deletion'
          ? 'have the customer cancel the deletion, or move to another CMK before that date'
          : 'have the customer allow it again, or move to another CMK while it can still unwrap',
    })
  }
  const current = cmks.filter(({ role }) => role === 'current').length
  const few = keks.filter((kek) => kek.parent === undefined && isReadable(kek) && kek.wraps.length < current)
  if (few.length > 0)
    findings.push({
      severity: 'warning',
      where: tenant,
      problem: `${few.length} keys are wrapped by fewer CMKs than are configured`,
      fix: 'fieldseal plan move, then apply',
    })
  return findings
}

function deletion({ deletesAt }: CmkHealth): string {
  return deletesAt === undefined ? '' : `, will be deleted on ${deletesAt.toISOString()}`
}

/** What is lost with a CMK: keys that nothing else has wrapped, and the rows under them. */
async function blastRadius(surroundings: Surroundings, { provider, uri }: CmkHealth, keks: readonly KekInfo[]) {
  const only = keks.filter(
    ({ wraps }) => wraps.length > 0 && wraps.every((wrap) => wrap.provider === provider && wrap.uri === uri),
  )
  const ids = new Set(only.map(({ id }) => id))
  const children = keks.filter(({ parent }) => parent !== undefined && ids.has(parent))
  const keys = [...only, ...children].filter(({ purpose, state }) => purpose === 'wrap' && state !== 'destroyed')
  let rows = 0
  for (const { id } of keys.slice(0, 100)) {
    try {
      for (const one of await rowsUnder(surroundings, id)) rows += one.rows
    } catch (error) {
      if (!isFieldsealError(error)) throw error
    }
  }
  return { keys: only.length + children.length, rows }
}
