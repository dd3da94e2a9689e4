import { randomUUID } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { CallFacts } from '../shared/calls.ts'
import { createControl, type EmulatorControl } from '../shared/control.ts'
import type { Fault } from '../shared/faults.ts'
import { selfSigned } from '../shared/self-signed.ts'
import type { AwsCall, JsonAnswer } from './aws-call.ts'
import { AwsFailure } from './aws-failure.ts'
import { type AwsKeysControl, createAwsKeys, DEFAULT_ACCOUNT, DEFAULT_REGION } from './aws-keys.ts'
import { answer } from './aws-operations.ts'
import { type AwsCredentials, type AwsRole, createAwsPrincipals } from './aws-principals.ts'
import { assumeRole } from './aws-sts.ts'

export interface AwsEmulatorOptions {
  /** @defaultValue 0: any free port */
  readonly port?: number
  /** HTTPS with a certificate of its own. @defaultValue false */
  readonly tls?: boolean
}

/** AWS KMS and STS (AssumeRole) on loopback. */
export interface AwsKmsEmulator extends EmulatorControl<JsonAnswer>, AwsKeysControl {
  /** `http://127.0.0.1:<port>` */
  readonly endpoint: string
  /** PEM, with `tls`. */
  readonly ca: string | undefined
  /** The answers and the checks of signatures live so many milliseconds off; the callers do not. */
  clockOffsetMs: number
  /** Credentials of a principal; `arn:aws:iam::111122223333:role/app` unless named. */
  credentials(principal?: string): AwsCredentials
  /** Options for `new KMSClient(…)` and other clients of the SDK. */
  clientOptions(principal?: string): { endpoint: string; region: string; credentials: AwsCredentials; maxAttempts: 1 }
  /** A role that may be assumed. */
  createRole(arn: string, role?: AwsRole): void
  /** Ends all sessions and credentials of a principal. */
  expireCredentials(principal: string): void
  /** An error of AWS's for the next calls, by name. */
  fail(
    type: string,
    options?: { readonly message?: string; readonly status?: number; readonly times?: number },
  ): () => void
  stop(): Promise<void>
}

export const DEFAULT_PRINCIPAL = `arn:aws:iam::${DEFAULT_ACCOUNT}:role/app`
const SERVICE_PREFIX = 'TrentService.'

/** Starts AWS KMS on 127.0.0.1. All Regions and accounts share one endpoint; the signature names the Region. */
export async function startAwsKms({ port = 0, tls = false }: AwsEmulatorOptions = {}): Promise<AwsKmsEmulator> {
  const control = createControl<JsonAnswer>()
  const keys = createAwsKeys(control)
  const principals = createAwsPrincipals()
  const byName = new Map<string, AwsCredentials>()
  const certificate = tls ? selfSigned() : undefined
  const listener = (request: IncomingMessage, response: ServerResponse) => {
    // A call that was cut has nobody left to tell.
    serve(request, response).catch(() => response.destroy())
  }
  const server = certificate === undefined ? createServer(listener) : createTlsServer(certificate, listener)

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await bodyOf(request)
    const requestId = randomUUID()
    const now = Date.now() + emulator.clockOffsetMs
    response.setHeader('x-amzn-RequestId', requestId)
    response.setHeader('Date', new Date(now).toUTCString())
    const target = String(request.headers['x-amz-target'] ?? '')
    let facts: CallFacts = { operation: target.replace(SERVICE_PREFIX, ''), principal: 'unknown', key: '' }
    let outcome = 'ok'
    let dryRun = false
    let keyVersion: string | undefined
    try {
      const signer = principals.signerOf({
        method: request.method ?? '',
        path: request.url ?? '/',
        headers: request.headers,
        body,
        now,
      })
      facts = { ...facts, principal: signer.principal }
      if (signer.service === 'sts') {
        facts = { ...facts, operation: 'AssumeRole' }
        await meet(facts, control.faults.take(facts), response)
        const { status, xml } = assumeRole(principals, signer.principal, body.toString())
        if (status !== 200) outcome = 'AccessDenied'
        response.writeHead(status, { 'content-type': 'text/xml' }).end(xml)
        return
      }
      const input = parse(body)
      facts = { ...facts, key: namedKey(input, signer.region), ...contextIn(input) }
      dryRun = input['DryRun'] === true
      const call: AwsCall = { operation: facts.operation, principal: signer.principal, region: signer.region, input }
      const fault = control.faults.take(facts)
      await meet(facts, fault, response)
      const { output, logged } = answer(keys, control, call)
      facts = { ...facts, ...logged }
      keyVersion = logged.keyVersion
      await send(response, 200, fault?.kind === 'alter' ? fault.change(output) : output, fault)
    } catch (error) {
      if (!(error instanceof AwsFailure)) throw error
      outcome = error.type
      if (error.retryAfterSeconds !== undefined) response.setHeader('Retry-After', error.retryAfterSeconds)
      await send(response, error.status, { __type: error.type, message: error.message }, undefined)
    } finally {
      control.log({
        ...facts,
        at: new Date(now),
        requestId,
        outcome,
        ...(dryRun ? { dryRun } : {}),
        ...(keyVersion === undefined ? {} : { keyVersion }),
      })
    }
  }

  /** What happens before the answer. @throws AwsFailure */
  async function meet(facts: CallFacts, fault: Fault<JsonAnswer> | undefined, response: ServerResponse): Promise<void> {
    const delayMs = control.delayMs(facts)
    if (delayMs > 0) await sleep(delayMs)
    if (fault?.kind === 'hang') await new Promise((resolve) => response.once('close', resolve))
    if (fault?.kind === 'hang' || (fault?.kind === 'drop' && fault.when !== 'midway')) {
      response.socket?.resetAndDestroy()
      throw new Error('cut')
    }
    if (fault?.kind === 'throttle')
      throw new AwsFailure('ThrottlingException', 'Rate exceeded', 400, fault.retryAfterSeconds)
    if (fault?.kind === 'error') throw fault.error
  }

  /** All names of one key are one key to policies and faults. */
  function namedKey(input: JsonAnswer, region: string): string {
    const name = input['KeyId'] ?? input['SourceKeyId'] ?? input['TargetKeyId']
    if (typeof name !== 'string') return ''
    try {
      return keys.arnOf(keys.find(name, region), region)
    } catch {
      return name
    }
  }

  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, '127.0.0.1', resolve))
  const address = server.address() as AddressInfo // listening on TCP
  const emulator: AwsKmsEmulator = Object.assign(Object.create(null), control, keys, {
    endpoint: `${tls ? 'https' : 'http'}://127.0.0.1:${address.port}`,
    ca: certificate?.cert,
    clockOffsetMs: 0,
    credentials(principal: string = DEFAULT_PRINCIPAL) {
      const known = byName.get(principal) ?? principals.issue(principal)
      byName.set(principal, known)
      return known
    },
    clientOptions: (principal?: string) => ({
      endpoint: emulator.endpoint,
      region: DEFAULT_REGION,
      credentials: emulator.credentials(principal),
      maxAttempts: 1,
    }),
    createRole: (arn: string, role: AwsRole = {}) => principals.role(arn, role),
    expireCredentials(principal: string) {
      principals.expire(principal)
      byName.delete(principal)
    },
    fail: (type: string, { message = '', status = 400, times = 1 } = {}) =>
      control.faults.add({ kind: 'error', error: new AwsFailure(type, message, status) }, { times }),
    async stop() {
      control.endTimers()
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  })
  return emulator
}

async function send(
  response: ServerResponse,
  status: number,
  output: JsonAnswer,
  fault: Fault<JsonAnswer> | undefined,
): Promise<void> {
  const text = Buffer.from(JSON.stringify(output))
  response.writeHead(status, { 'content-type': 'application/x-amz-json-1.1', 'content-length': text.length })
  if (fault?.kind === 'drop') {
    await new Promise((resolve) => response.write(text.subarray(0, text.length >> 1), resolve))
    response.socket?.resetAndDestroy()
    return
  }
  if (fault?.kind === 'slow-body') {
    const steps = 10
    for (let i = 0; i < steps && !response.destroyed; i++) {
      response.write(text.subarray((text.length * i) / steps, (text.length * (i + 1)) / steps))
      await sleep(fault.ms / steps)
    }
    response.end()
    return
  }
  response.end(text)
}

function parse(body: Buffer): JsonAnswer {
  try {
    return JSON.parse(body.toString())
  } catch {
    throw new AwsFailure('SerializationException', 'not JSON')
  }
}

function contextIn(input: JsonAnswer): Pick<CallFacts, 'context'> {
  const context = input['EncryptionContext'] ?? input['SourceEncryptionContext']
  return typeof context === 'object' && context !== null ? { context: { ...context } as Record<string, string> } : {}
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk)
  return Buffer.concat(chunks)
}
