import { FieldsealError, type Kms } from '@fieldseal/core/kms'
import { createClients } from './clients.ts'
import { gcpCmk } from './gcp-cmk.ts'
import {
  assertCmk,
  assertKmsOptions,
  assertNoPayloadLogging,
  type GcpCmkOptions,
  type GcpKmsOptions,
} from './options.ts'

/**
 * CMKs in Google Cloud KMS. One per process: it holds Google's clients and their connections.
 *
 * `gcpKms().cmk('projects/…/locations/…/keyRings/…/cryptoKeys/…', { credentialScope: tenant.id, authClient })`
 *
 * Every call is one attempt, ended by core's deadline. Reads the environment variables GOOGLE_SDK_NODE_LOGGING
 * and NODE_DEBUG only to refuse to run while they would print keys.
 *
 * @throws FieldsealError ERR_CONFIG_INVALID for options out of range, a uri that names no key, or that logging
 */
export function gcpKms(options: GcpKmsOptions = {}): Kms<GcpCmkOptions> {
  assertKmsOptions(options)
  assertNoPayloadLogging(process.env)
  const clients = createClients(Object.freeze({ ...options }))
  const underWay = new Set<() => void>()
  let closed = false
  return {
    cmk(uri, own = {}) {
      assertCmk(uri, own)
      const { credentialScope = `gcp-kms ${uri}`, authClient, apiEndpoint } = own
      return gcpCmk({
        uri,
        credentialScope,
        authClient,
        underWay,
        async use(run) {
          if (closed) throw new FieldsealError('ERR_CLOSED', { reason: 'gcpKms was closed' })
          return clients.use({ scope: credentialScope, apiEndpoint, authClient }, run)
        },
      })
    },
    async close() {
      closed = true
      for (const abort of underWay) abort()
      await clients.close()
    },
  }
}
