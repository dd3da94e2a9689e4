import { randomUUID } from 'node:crypto'
import { createRequire } from 'node:module'
import { setTimeout as sleep } from 'node:timers/promises'
import { OAuth2Client } from 'google-auth-library'
import { GrpcClient, grpc } from 'google-gax'
import type { CallFacts } from '../shared/calls.ts'
import { createControl, type EmulatorControl } from '../shared/control.ts'
import { selfSigned } from '../shared/self-signed.ts'
import { createGcpKeys, type GcpKeysControl } from './gcp-keys.ts'
import { type GcpAnswer, nameOf } from './gcp-answer.ts'
import { startGcpIam } from './gcp-iam.ts'
import { answerGcp, permissionDenied } from './gcp-operations.ts'
import { GrpcFailure, type Violation } from './grpc-failure.ts'
import { openGate } from './tcp-gate.ts'

export interface GcpEmulatorOptions {
  /** @defaultValue 0: any free port */
  readonly port?: number
  /**
   * TLS with a certificate of its own, and callers known by their access tokens. Without it callers are `anonymous`:
   * Google's client sends no token over a plain connection. @defaultValue false
   */
  readonly tls?: boolean
}

/** A part of the options of the vendor's client. A type, not an interface: their options have an index signature. */
export type GcpClientOptions = {
  readonly apiEndpoint: string
  readonly port: number
  readonly projectId: string
} & ({ readonly sslCreds: grpc.ChannelCredentials } | { readonly authClient: OAuth2Client })

/** Google Cloud KMS (Encrypt, Decrypt, GetCryptoKey, GetCryptoKeyVersion) and impersonation on loopback. */
export interface GcpKmsEmulator extends EmulatorControl<GcpAnswer>, GcpKeysControl {
  readonly port: number
  /** `127.0.0.1:<port>` */
  readonly endpoint: string
  /** PEM, with `tls`; make it trusted with `tls.setDefaultCACertificates`. */
  readonly ca: string | undefined
  /** The option `endpoint` for google-auth-library's `Impersonated`. */
  readonly iamEndpoint: string
  /** Options for `new KeyManagementServiceClient(…)`. `principal` only with `tls`. */
  clientOptions(principal?: string): GcpClientOptions
  /** Credentials of a principal, as a `sourceClient` of `Impersonated` wants them. */
  authClient(principal: string): OAuth2Client
  createServiceAccount(email: string, trusts?: (principal: string) => boolean): void
  /** Connections of clients that are open now. */
  connections(): number
  /** Ends the tokens of a principal. */
  revoke(principal: string): void
  /** An error of Google's for the next calls. */
  fail(
    code: keyof typeof grpc.status,
    options?: {
      readonly message?: string
      readonly violations?: readonly Violation[]
      readonly reason?: string
      readonly times?: number
    },
  ): () => void
  stop(): Promise<void>
}

const OPERATIONS = ['Encrypt', 'Decrypt', 'GetCryptoKey', 'GetCryptoKeyVersion'] as const
const DEFAULT_PRINCIPAL = 'app@operator.iam.gserviceaccount.com'

/** Starts Google Cloud KMS on 127.0.0.1. The protos are those inside @google-cloud/kms. */
export async function startGcpKms({ port = 0, tls = false }: GcpEmulatorOptions = {}): Promise<GcpKmsEmulator> {
  const control = createControl<GcpAnswer>()
  const keys = createGcpKeys(control)
  const iam = await startGcpIam()
  const certificate = tls ? selfSigned() : undefined
  const server = new grpc.Server({
    'grpc.max_receive_message_length': 1 << 20,
    // As Google's front ends do: one connection carries so many calls at once.
    'grpc.max_concurrent_streams': 100,
  })
  server.addService(serviceDefinition(), Object.fromEntries(OPERATIONS.map((name) => [name, handler(name)])))
  const innerPort = await new Promise<number>((resolve, reject) => {
    const credentials =
      certificate === undefined
        ? grpc.ServerCredentials.createInsecure()
        : grpc.ServerCredentials.createSsl(null, [
            { private_key: Buffer.from(certificate.key), cert_chain: Buffer.from(certificate.cert) },
          ])
    server.bindAsync('127.0.0.1:0', credentials, (error, bound) => (error === null ? resolve(bound) : reject(error)))
  })
  const gate = await openGate(port, innerPort)

  function handler(operation: string): grpc.handleUnaryCall<GcpAnswer, GcpAnswer> {
    return (call, callback) => {
      void (async () => {
        let output: GcpAnswer
        try {
          output = await serve(operation, call)
        } catch (error) {
          if (!(error instanceof GrpcFailure)) throw error
          callback({ code: error.code, details: error.message, metadata: error.metadata })
          return
        }
        callback(null, output)
      })()
    }
  }

  async function serve(operation: string, call: grpc.ServerUnaryCall<GcpAnswer, GcpAnswer>): Promise<GcpAnswer> {
    const token = call.metadata.get('authorization')[0]
    const principal = tls ? iam.principalOf(token?.toString()) : 'anonymous'
    const [key = ''] = nameOf(call.request).split('/cryptoKeyVersions/')
    const facts: CallFacts = { operation, principal: principal ?? 'unknown', key }
    let outcome = 'ok'
    let keyVersion: string | undefined
    try {
      if (principal === undefined)
        throw new GrpcFailure(grpc.status.UNAUTHENTICATED, 'Request had invalid authentication credentials.')
      const fault = control.faults.take(facts)
      const delayMs = control.delayMs(facts)
      if (delayMs > 0) await sleep(delayMs)
      if (fault?.kind === 'hang') await new Promise((resolve) => call.once('cancelled', resolve))
      if (fault?.kind === 'drop') {
        gate.cut()
        throw new GrpcFailure(grpc.status.CANCELLED, 'cut')
      }
      if (fault?.kind === 'throttle')
        throw new GrpcFailure(grpc.status.RESOURCE_EXHAUSTED, 'Quota exceeded for quota metric.')
      if (fault?.kind === 'error') throw fault.error
      if (!control.allowed(facts)) throw permissionDenied(operation, key)
      const { output, logged } = answerGcp(keys, operation, call.request)
      keyVersion = logged.keyVersion
      if (fault?.kind === 'slow-body') await sleep(fault.ms)
      return fault?.kind === 'alter' ? fault.change(output) : output
    } catch (error) {
      outcome = error instanceof GrpcFailure ? (grpc.status[error.code] ?? 'UNKNOWN') : 'INTERNAL'
      throw error
    } finally {
      control.log({
        ...facts,
        at: new Date(),
        requestId: randomUUID(),
        outcome,
        ...(keyVersion === undefined ? {} : { keyVersion }),
      })
    }
  }

  const emulator: GcpKmsEmulator = Object.assign(Object.create(null), control, keys, {
    port: gate.port,
    endpoint: `127.0.0.1:${gate.port}`,
    ca: certificate?.cert,
    iamEndpoint: iam.endpoint,
    clientOptions(principal: string = DEFAULT_PRINCIPAL) {
      return {
        apiEndpoint: tls ? 'localhost' : '127.0.0.1',
        port: gate.port,
        projectId: 'operator',
        ...(tls ? { authClient: emulator.authClient(principal) } : { sslCreds: grpc.credentials.createInsecure() }),
      }
    },
    authClient(principal: string) {
      const client = new OAuth2Client()
      client.setCredentials({ access_token: iam.token(principal), expiry_date: Date.now() + 3_600_000 })
      return client
    },
    createServiceAccount: iam.createServiceAccount,
    connections: gate.connections,
    revoke: iam.revoke,
    fail: (code: keyof typeof grpc.status, { message = 'as asked', times = 1, ...details } = {}) =>
      control.faults.add({ kind: 'error', error: new GrpcFailure(grpc.status[code], message, details) }, { times }),
    async stop() {
      control.endTimers()
      await gate.close()
      await iam.close()
      server.forceShutdown()
    },
  })
  return emulator
}

/** google.cloud.kms.v1.KeyManagementService. */
function serviceDefinition(): grpc.ServiceDefinition {
  const protos: object = createRequire(import.meta.url)('@google-cloud/kms/build/protos/protos.json')
  const root: unknown = new GrpcClient().loadProtoJSON(protos)
  const found = ['google', 'cloud', 'kms', 'v1', 'KeyManagementService', 'service'].reduce<unknown>(
    (node, name) => (node as Record<string, unknown> | undefined)?.[name],
    root,
  )
  return found as grpc.ServiceDefinition // what the vendor's file holds at this path
}
