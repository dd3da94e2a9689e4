import { FieldsealError, type Kms } from '@fieldseal/core/kms'
import { awsCmk } from './aws-cmk.ts'
import { createClients } from './clients.ts'
import { parseKeyUri } from './key-ref.ts'
import {
  assertKmsOptions,
  assertNoStreamDebugging,
  assertOptions,
  type AwsCmkOptions,
  type AwsKmsOptions,
} from './options.ts'

/**
 * CMKs in AWS KMS. One per process: it holds the SDK's clients and their sockets.
 *
 * `awsKms().cmk('arn:aws:kms:eu-west-1:111122223333:key/…', { credentialScope: tenant.id, credentials })`
 *
 * Every call is one attempt, ended by core's deadline. Reads the environment variable NODE_DEBUG only to refuse to
 * run while Node would print what is read; the SDK's credential chain, which `credentials` replaces, reads more.
 *
 * @throws FieldsealError ERR_CONFIG_INVALID for contradictory options, a uri that names no CMK, or that debugging
 */
export function awsKms(options: AwsKmsOptions = {}): Kms<AwsCmkOptions> {
  assertKmsOptions(options)
  assertNoStreamDebugging(process.env['NODE_DEBUG'])
  const defaults = Object.freeze({ ...options })
  const clients = createClients(defaults)
  const underWay = new Set<() => void>()
  let closed = false
  return {
    cmk(uri, own = {}) {
      const merged = { ...defaults, ...own }
      assertOptions(merged)
      const ref = parseKeyUri(uri, own.region ?? (isArn(uri) ? undefined : defaults.region))
      const credentialScope = own.credentialScope ?? `aws-kms ${uri}`
      const place = {
        scope: credentialScope,
        region: ref.region,
        endpoint: merged.endpoint,
        fips: merged.fips,
        dualStack: merged.dualStack,
        credentials: own.credentials,
      }
      return awsCmk({
        uri,
        ref,
        credentialScope,
        grantTokens: own.grantTokens ?? [],
        underWay,
        client() {
          if (closed) throw new FieldsealError('ERR_CLOSED', { reason: 'awsKms was closed' })
          return clients.get(place)
        },
        forgetClient: () => clients.forget(place),
      })
    },
    async close() {
      closed = true
      for (const abort of underWay) abort()
      clients.close()
    },
  }
}

/** The Region of all CMKs is for those whose uri names none. */
function isArn(uri: string): boolean {
  return uri.startsWith('arn:')
}
