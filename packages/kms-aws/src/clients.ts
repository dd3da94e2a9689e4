import { Agent as HttpAgent } from 'node:http'
import { Agent as HttpsAgent } from 'node:https'
import { KMSClient, type KMSClientConfig } from '@aws-sdk/client-kms'
import { collectBounded } from './bounded-body.ts'
import { CredentialsFailure } from './map-error.ts'
import { type AwsKmsOptions, DEFAULTS } from './options.ts'

export interface ClientPlace {
  readonly scope: string
  readonly region: string
  readonly endpoint: string | undefined
  readonly fips: boolean | undefined
  readonly dualStack: boolean | undefined
  /** Of one CMK; `undefined` for those of all. */
  readonly credentials: Credentials | undefined
}

/** SDK clients, one per credential scope and place, so that tenants never share credentials. */
export interface Clients {
  get(place: ClientPlace): KMSClient
  /** The next `get` makes a new one and asks for credentials anew. */
  forget(place: ClientPlace): void
  close(): void
}

type Credentials = NonNullable<KMSClientConfig['credentials']>
type Provider = Extract<Credentials, (...args: never[]) => unknown>

/** When nobody gave a signal; core's deadline is far shorter. */
const REQUEST_TIMEOUT_MS = 30_000

export function createClients({
  credentials: shared,
  connectTimeoutMs = DEFAULTS.connectTimeoutMs,
  maxClients = DEFAULTS.maxClients,
  clientOptions = {},
}: AwsKmsOptions): Clients {
  const clients = new Map<string, KMSClient>()
  const identities = new WeakMap<object, number>()
  let lastIdentity = 0
  let defaultChain: Credentials | undefined
  // Sockets without a limit: core limits the calls of each scope, and a scope that hangs must not take those of others.
  const agents = {
    httpAgent: new HttpAgent({ keepAlive: true, maxFreeSockets: 64 }),
    httpsAgent: new HttpsAgent({ keepAlive: true, maxFreeSockets: 64 }),
  }

  /** Another credentials object is another client: a tenant whose role was changed must not go on with the old one. */
  function identityOf(credentials: Credentials | undefined): number {
    if (credentials === undefined) return 0
    const known = identities.get(credentials) ?? ++lastIdentity
    identities.set(credentials, known)
    return known
  }

  function create({ region, endpoint, fips, dualStack, credentials: own }: ClientPlace): KMSClient {
    const credentials = own ?? shared ?? defaultChain
    const client = new KMSClient({
      requestHandler: {
        ...agents,
        connectionTimeout: connectTimeoutMs,
        requestTimeout: REQUEST_TIMEOUT_MS,
        throwOnRequestTimeout: true,
      },
      ...clientOptions,
      region,
      ...(endpoint === undefined ? {} : { endpoint }),
      ...(fips === undefined ? {} : { useFipsEndpoint: fips }),
      ...(dualStack === undefined ? {} : { useDualstackEndpoint: dualStack }),
      ...(credentials === undefined ? {} : { credentials: tagged(credentials, own !== undefined) }),
      // Core repeats, within one deadline and one budget per scope. In the mode `adaptive` the SDK would delay even that one.
      maxAttempts: 1,
      retryMode: 'standard',
      streamCollector: collectBounded,
    })
    if (credentials === undefined) {
      // The chain looks into files and asks the machine: once for all clients.
      const chain = client.config.credentials
      defaultChain = chain
      client.config.credentials = tagged(chain, false) as typeof chain // the SDK's own provider in a wrapper of its shape
    }
    return client
  }

  function idOf({ scope, region, endpoint = '', fips, dualStack, credentials }: ClientPlace): string {
    return JSON.stringify([scope, region, endpoint, fips, dualStack, identityOf(credentials)])
  }

  return {
    get(place) {
      const id = idOf(place)
      const client = clients.get(id) ?? create(place)
      clients.delete(id)
      clients.set(id, client)
      // A client has no sockets of its own, so one that leaves may finish what it does.
      for (const oldest of clients.keys()) {
        if (clients.size <= maxClients) break
        clients.delete(oldest)
      }
      return client
    },
    forget(place) {
      clients.delete(idOf(place))
      defaultChain = undefined
    },
    close() {
      clients.clear()
      agents.httpAgent.destroy()
      agents.httpsAgent.destroy()
    },
  }
}

/** Tells a failure to get credentials from an answer of the KMS. */
function tagged(credentials: Credentials, ofTenant: boolean): Credentials {
  if (typeof credentials !== 'function') return credentials
  const provider: Provider = async (...args) => {
    try {
      return await credentials(...args)
    } catch (error) {
      throw new CredentialsFailure(error, ofTenant)
    }
  }
  return provider
}
