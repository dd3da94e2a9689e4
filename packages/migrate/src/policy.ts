import { FieldsealError } from '@fieldseal/core/adapter'

/** The crypto-period of a KEK, per keyspace. */
export interface Policy {
  /** A KEK older than this is due for rotation. @defaultValue 365 */
  readonly maxAgeDays?: number
  /** A KEK is due when as many rows stand under it: each was wrapped at least once. @defaultValue 2 ** 31, more than is worth a count: rows are counted where it is less */
  readonly maxWraps?: number
  /** Readable versions of one keyspace; beyond it `rotate kek --due` starts a rewrap. @defaultValue 3 */
  readonly maxLiveVersions?: number
  /** How long ahead `kek.due` warns. @defaultValue 14 */
  readonly warnDays?: number
}

const DEFAULTS: Required<Policy> = {
  /** NIST SP 800-57 part 1 allows two years for a symmetric wrapping key; most auditors ask for one. */
  maxAgeDays: 365,
  maxWraps: 2 ** 31,
  maxLiveVersions: 3,
  warnDays: 14,
}

/** @throws FieldsealError ERR_CONFIG_INVALID naming the option */
export function checkedPolicy(policy: Policy = {}): Required<Policy> {
  for (const name of Object.keys(policy))
    if (!(name in DEFAULTS)) throw invalid(name, `unknown; known are ${Object.keys(DEFAULTS).join(', ')}`)
  const checked = { ...DEFAULTS, ...policy }
  for (const [name, value] of Object.entries(checked))
    if (!Number.isFinite(value) || value < (name === 'warnDays' ? 0 : 1)) throw invalid(name, 'a positive number')
  return checked
}

function invalid(name: string, reason: string): FieldsealError {
  return new FieldsealError('ERR_CONFIG_INVALID', { field: `policy.${name}`, reason })
}
