import { FieldsealError, turnsOnSection } from '@fieldseal/core/kms'
import type { KMSClientConfig } from '@aws-sdk/client-kms'

/** What one CMK may have of its own, and `awsKms` may set for all. */
export interface AwsCmkOptions {
  /**
   * CMKs of one scope share client, breaker, concurrency and retry budget: usually the tenant's id.
   * @defaultValue the CMK's uri
   */
  readonly credentialScope?: string
  /**
   * As the SDK takes them; of a tenant's role usually `fromTemporaryCredentials(…)`. Keep one provider per tenant and
   * role: each new one assumes the role again. @defaultValue the SDK's default chain, resolved once for all CMKs
   */
  readonly credentials?: NonNullable<KMSClientConfig['credentials']>
  /**
   * The Region to ask. An ARN names its own; another one is allowed only for a multi-Region key (`mrk-…`), which is then
   * stored under the configured ARN and asked at its replica. Needed for `alias/<name>` without an ARN.
   */
  readonly region?: string
  /** A VPC endpoint or an emulator. @defaultValue the Region's public endpoint */
  readonly endpoint?: string
  /** The FIPS endpoint of the Region; not together with `endpoint`. @defaultValue the SDK's own: AWS_USE_FIPS_ENDPOINT */
  readonly fips?: boolean
  /** IPv6 beside IPv4. @defaultValue the SDK's own: AWS_USE_DUALSTACK_ENDPOINT */
  readonly dualStack?: boolean
  /** For a grant that has not propagated yet. */
  readonly grantTokens?: readonly string[]
}

export interface AwsKmsOptions extends Omit<AwsCmkOptions, 'credentialScope' | 'grantTokens'> {
  /** Milliseconds to open a connection. @defaultValue 1_000 */
  readonly connectTimeoutMs?: number
  /** Most SDK clients held at once, one per scope, Region and endpoint; the least recently used leaves first. @defaultValue 500 */
  readonly maxClients?: number
  /**
   * More options of the SDK's client: proxy agents, a logger, a user agent. Retries, timeouts and what the options
   * above say are ours. A `requestHandler` of your own must end a call when its signal is aborted.
   */
  readonly clientOptions?: Omit<
    KMSClientConfig,
    | 'maxAttempts'
    | 'retryMode'
    | 'retryStrategy'
    | 'streamCollector'
    | 'credentials'
    | 'region'
    | 'endpoint'
    | 'useFipsEndpoint'
    | 'useDualstackEndpoint'
  >
}

export const DEFAULTS = Object.freeze({
  /** In its Region a connection takes a few milliseconds; a lost packet is repeated within this time. */
  connectTimeoutMs: 1_000,
  /** A client without sockets of its own takes some 100 kB. */
  maxClients: 500,
})

/** @throws FieldsealError ERR_CONFIG_INVALID */
export function assertOptions({ fips, endpoint, credentialScope }: AwsCmkOptions): void {
  if (fips === true && endpoint !== undefined) {
    throw invalid('fips', 'AWS has no FIPS variant of a custom endpoint', 'reach a FIPS VPC endpoint by private DNS')
  }
  if (endpoint !== undefined && !/^https?:\/\//.test(endpoint)) throw invalid('endpoint', 'must be an http(s) URL')
  if (credentialScope === '') throw invalid('credentialScope', 'must not be empty')
}

/** @throws FieldsealError ERR_CONFIG_INVALID */
export function assertKmsOptions(options: AwsKmsOptions): void {
  assertOptions(options)
  for (const name of ['connectTimeoutMs', 'maxClients'] as const) {
    const value = options[name]
    if (value !== undefined && !(Number.isSafeInteger(value) && value >= 1))
      throw invalid(name, 'must be a positive integer')
  }
}

/**
 * With `NODE_DEBUG=stream` Node prints the first 50 bytes of all that a stream reads: most of a key in an answer.
 * @throws FieldsealError ERR_CONFIG_INVALID
 */
export function assertNoStreamDebugging(sections: string | undefined): void {
  if (!turnsOnSection(sections, 'stream')) return
  throw new FieldsealError('ERR_CONFIG_INVALID', {
    field: 'NODE_DEBUG',
    reason: 'it would print keys',
    hint: 'leave out stream and * from this environment variable',
  })
}

function invalid(field: string, reason: string, hint?: string): FieldsealError {
  return new FieldsealError('ERR_CONFIG_INVALID', {
    field: `awsKms.${field}`,
    reason,
    ...(hint === undefined ? {} : { hint }),
  })
}
