import type { KeyManagementServiceClient } from '@google-cloud/kms'
import { FieldsealError, turnsOnSection } from '@fieldseal/core/kms'

/** What the vendor's client takes. */
export type ClientOptions = NonNullable<ConstructorParameters<typeof KeyManagementServiceClient>[0]>

/** What one CMK may have of its own. */
export interface GcpCmkOptions {
  /**
   * CMKs of one scope share client, connection, breaker, concurrency and retry budget: usually the tenant's id.
   * @defaultValue the CMK's uri
   */
  readonly credentialScope?: string
  /**
   * Credentials of this CMK's own, usually `new Impersonated(…)` of google-auth-library for a service account of the
   * tenant. Keep one per tenant: each new one asks for a token again. @defaultValue those of `gcpKms`
   */
  readonly authClient?: NonNullable<ClientOptions['authClient']>
  /** A regional or private endpoint. @defaultValue cloudkms.googleapis.com */
  readonly apiEndpoint?: string
}

export interface GcpKmsOptions {
  /** Most clients held at once, one per scope; each has a connection. The least recently used leaves first. @defaultValue 200 */
  readonly maxClients?: number
  /**
   * Options of Google's client for all CMKs: `authClient`, `credentials`, `apiEndpoint`, `port`, `sslCreds`, channel
   * arguments. Retries and limits of messages are ours, and `fallback` (HTTPS in place of gRPC) is refused.
   */
  readonly clientOptions?: ClientOptions
}

export const DEFAULTS = Object.freeze({
  /** A client takes about half a megabyte and one connection. */
  maxClients: 200,
})

/** @throws FieldsealError ERR_CONFIG_INVALID */
export function assertKmsOptions({ maxClients = DEFAULTS.maxClients, clientOptions = {} }: GcpKmsOptions): void {
  if (!Number.isSafeInteger(maxClients) || maxClients < 1)
    throw invalid('gcpKms.maxClients', 'must be a positive integer')
  // Its errors and its limits on answers are others, and nobody has tried them.
  if (clientOptions.fallback !== undefined && clientOptions.fallback !== false)
    throw invalid('gcpKms.clientOptions.fallback', 'only gRPC is supported')
}

/** @throws FieldsealError ERR_CONFIG_INVALID unless `uri` names one symmetric key, without a version */
export function assertCmk(uri: string, { credentialScope, apiEndpoint }: GcpCmkOptions): void {
  if (!/^projects\/[\w.:-]+\/locations\/[\w-]+\/keyRings\/[\w-]{1,63}\/cryptoKeys\/[\w-]{1,63}$/.test(uri)) {
    throw invalid(
      'gcpKms.cmk',
      uri.includes('/cryptoKeyVersions/') ? 'names a version: name the key' : 'not the name of a key',
      'projects/<project>/locations/<location>/keyRings/<ring>/cryptoKeys/<key>',
    )
  }
  if (credentialScope === '') throw invalid('gcpKms.credentialScope', 'must not be empty')
  if (apiEndpoint !== undefined && !/^[A-Za-z0-9.-]+$/.test(apiEndpoint))
    throw invalid('gcpKms.apiEndpoint', 'must be a host name')
}

/**
 * Google's client prints requests and answers of `kms`, keys and all, with GOOGLE_SDK_NODE_LOGGING; Node prints the
 * first 50 bytes of all that a stream reads with NODE_DEBUG=stream.
 * @throws FieldsealError ERR_CONFIG_INVALID
 */
export function assertNoPayloadLogging(env: Readonly<Record<string, string | undefined>>): void {
  // Google's `all` is `*`; a filter such as `kms:v1` is about a part of it.
  const sdk = (env['GOOGLE_SDK_NODE_LOGGING'] ?? '').replace(/\s/g, '').replace(/(^|,)all(?=,|$)/gi, '$1*')
  if (['kms', 'gax'].some((name) => turnsOnSection(sdk, name)) || /(^|,)(kms|gax):/i.test(sdk))
    throw printsKeys('GOOGLE_SDK_NODE_LOGGING', 'leave out kms, gax, all and * from this environment variable')
  if (turnsOnSection(env['NODE_DEBUG'], 'stream'))
    throw printsKeys('NODE_DEBUG', 'leave out stream and * from this environment variable')
}

function printsKeys(field: string, hint: string): FieldsealError {
  return invalid(field, 'it would print keys', hint)
}

function invalid(field: string, reason: string, hint?: string): FieldsealError {
  return new FieldsealError('ERR_CONFIG_INVALID', { field, reason, ...(hint === undefined ? {} : { hint }) })
}
