import type { KeyCachePolicy } from './cache/options.ts'
import { type Health, type TenantHealth, worse } from './keyring/health.ts'
import type { Audit } from './observe/audit.ts'
import type { HealthStatus } from './observe/events.ts'

/** What is known of the keys of one tenant, or of all that this process has worked for. */
export interface HealthReport {
  /** The worst of them. */
  readonly status: HealthStatus
  readonly tenants: readonly TenantHealth[]
  /** Entries that the audit sink did not take, since the start of the process. */
  readonly auditFailures: number
}

const TENANTS_AT_ONCE = 16

/** Asks about one tenant now, or about all whose last word is older than a refresh: called often, it costs no more than once a minute. */
export async function healthReport(
  tenants: readonly string[],
  {
    asksNow,
    health,
    policyOf,
    audit,
  }: {
    readonly asksNow: boolean
    readonly health: Health
    readonly policyOf: (tenant: string) => KeyCachePolicy
    readonly audit: Audit | undefined
  },
): Promise<HealthReport> {
  const found: TenantHealth[] = []
  for (let from = 0; from < tenants.length; from += TENANTS_AT_ONCE) {
    const some = tenants.slice(from, from + TENANTS_AT_ONCE)
    found.push(
      ...(await Promise.all(
        some.map((tenant) => health.of(tenant, { maxAgeMs: asksNow ? 0 : policyOf(tenant).refreshAfterMs })),
      )),
    )
  }
  const status = found.map((one) => one.status).reduce(worse, 'unknown')
  return { status, tenants: found, auditFailures: audit?.failures ?? 0 }
}
