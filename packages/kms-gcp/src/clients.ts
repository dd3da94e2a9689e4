import { KeyManagementServiceClient } from '@google-cloud/kms'
import {
  assertNoPayloadLogging,
  type ClientOptions,
  DEFAULTS,
  type GcpCmkOptions,
  type GcpKmsOptions,
} from './options.ts'
import { CredentialsFailure } from './map-error.ts'

export interface ClientPlace {
  readonly scope: string
  readonly apiEndpoint: string | undefined
  readonly authClient: GcpCmkOptions['authClient']
}

/** Google's clients, one per credential scope; each has its own connection, so that no scope waits for another. */
export interface Clients {
  /** Lends a client that is ready. @throws CredentialsFailure when there are no credentials for it */
  use<R>(place: ClientPlace, run: (client: KeyManagementServiceClient) => Promise<R>): Promise<R>
  close(): Promise<void>
}

/** The longest answer of a KMS is a blob of 6,144 bytes and some names; a `GetCryptoKey` may carry labels. */
const MAX_MESSAGE_BYTES = 65_536

export function createClients({ clientOptions = {}, maxClients = DEFAULTS.maxClients }: GcpKmsOptions): Clients {
  const clients = new Map<string, Lent>()
  const identities = new WeakMap<object, number>()
  let lastIdentity = 0
  let sharedAuth: ClientOptions['auth']

  /** Another credentials object is another client: a tenant whose account was changed must not go on with the old one. */
  function identityOf(credentials: object | undefined): number {
    if (credentials === undefined) return 0
    const known = identities.get(credentials) ?? ++lastIdentity
    identities.set(credentials, known)
    return known
  }

  async function create({ apiEndpoint, authClient }: ClientPlace): Promise<KeyManagementServiceClient> {
    assertNoPayloadLogging(process.env)
    const ofTenant = authClient !== undefined
    const client = new KeyManagementServiceClient({
      ...clientOptions,
      ...(apiEndpoint === undefined ? {} : { apiEndpoint }),
      // One default chain for all: it looks into files and asks the machine.
      ...(ofTenant ? { authClient } : sharedAuth === undefined ? {} : { auth: sharedAuth }),
      'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
      // Otherwise channels to the same host share a connection, and one tenant's hanging calls fill it.
      'grpc.use_local_subchannel_pool': 1,
      'grpc.enable_retries': 0,
      // The vendor's telemetry records what a failed call was answered.
      enableTelemetryLogging: false,
    })
    silence(client)
    if (!ofTenant) sharedAuth ??= client.auth
    try {
      // Before any method: the client's methods raise an unhandled rejection when this fails inside them.
      await client.initialize()
    } catch (error) {
      if (!ofTenant && sharedAuth === client.auth) sharedAuth = undefined
      throw new CredentialsFailure(error, ofTenant)
    }
    return client
  }

  function find(place: ClientPlace): Lent {
    const { scope, apiEndpoint = '', authClient } = place
    const id = JSON.stringify([scope, apiEndpoint, identityOf(authClient)])
    const found = clients.get(id) ?? { client: create(place), users: 0, leaving: false }
    clients.delete(id)
    clients.set(id, found)
    found.client.catch(() => {
      if (clients.get(id) === found) clients.delete(id)
    })
    return found
  }

  return {
    async use(place, run) {
      const lent = find(place)
      lent.users++
      for (const [oldest, leaving] of clients) {
        if (clients.size <= maxClients) break
        clients.delete(oldest)
        leaving.leaving = true
        closeUnused(leaving)
      }
      try {
        return await run(await lent.client)
      } finally {
        lent.users--
        closeUnused(lent)
      }
    },
    async close() {
      const all = [...clients.values()]
      clients.clear()
      await Promise.allSettled(all.map(async ({ client }) => (await client).close()))
    },
  }
}

interface Lent {
  readonly client: Promise<KeyManagementServiceClient>
  users: number
  /** Not to be lent again; closed by its last user. */
  leaving: boolean
}

/** A client that never got ready has nothing to close. */
function closeUnused({ client, users, leaving }: Lent): void {
  if (leaving && users === 0) client.then((ready) => ready.close()).catch(() => undefined)
}

/**
 * The client's own logger prints requests and answers when it is turned on, by the environment (refused) or by a call of
 * google-logging-utils. Not part of the vendor's interface; a logger under another name stays as it is.
 */
function silence(client: KeyManagementServiceClient): void {
  const silent: unknown = new Proxy(() => undefined, { get: () => () => undefined })
  if ('_log' in client) Object.defineProperty(client, '_log', { value: silent })
}
