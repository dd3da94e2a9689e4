import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import { AwsFailure } from './aws-failure.ts'

export interface AwsCredentials {
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly sessionToken?: string
}

export interface AwsRole {
  /** The ExternalId that the trust policy demands. */
  readonly externalId?: string
  /** Who may assume it. @defaultValue anybody */
  readonly trusts?: (principal: string) => boolean
}

interface Issued {
  readonly credentials: AwsCredentials
  readonly principal: string
  readonly expiresAt: number
}

/** Who may call, with which keys; checks signatures. */
export interface AwsPrincipals {
  /** Long-lived credentials of a principal. */
  issue(principal: string): AwsCredentials
  /** Temporary credentials, as STS gives them. */
  issueSession(principal: string, durationSeconds: number): AwsCredentials & { readonly expiresAt: Date }
  /** All sessions of a principal are over. */
  expire(principal: string): void
  role(arn: string, role: AwsRole): void
  roleOf(arn: string): AwsRole | undefined
  /**
   * Who signed a request, and for which Region and service (Signature Version 4).
   * @throws AwsFailure MissingAuthenticationTokenException, UnrecognizedClientException, ExpiredTokenException,
   * InvalidSignatureException
   */
  signerOf(request: SignedRequest): { readonly principal: string; readonly region: string; readonly service: string }
}

export interface SignedRequest {
  readonly method: string
  readonly path: string
  readonly headers: IncomingHttpHeaders
  readonly body: Uint8Array
  /** Epoch milliseconds of the emulator's clock. */
  readonly now: number
}

const MAX_SKEW_MS = 300_000

export function createAwsPrincipals(): AwsPrincipals {
  const issued = new Map<string, Issued>()
  const roles = new Map<string, AwsRole>()

  function add(prefix: string, principal: string, expiresAt: number, session: boolean): AwsCredentials {
    const credentials = {
      accessKeyId: prefix + randomBytes(8).toString('hex').toUpperCase(),
      secretAccessKey: randomBytes(30).toString('base64url'),
      ...(session ? { sessionToken: randomBytes(60).toString('base64') } : {}),
    }
    issued.set(credentials.accessKeyId, { credentials, principal, expiresAt })
    return credentials
  }

  return {
    issue: (principal) => add('AKIA', principal, Infinity, false),
    issueSession(principal, durationSeconds) {
      const expiresAt = Date.now() + durationSeconds * 1_000
      return { ...add('ASIA', principal, expiresAt, true), expiresAt: new Date(expiresAt) }
    },
    expire(principal) {
      for (const [id, entry] of issued) {
        if (entry.principal === principal) issued.set(id, { ...entry, expiresAt: 0 })
      }
    },
    role: (arn, role) => void roles.set(arn, role),
    roleOf: (arn) => roles.get(arn),
    signerOf(request) {
      const parts =
        /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/([^/]+)\/aws4_request, SignedHeaders=([^,]+), Signature=([0-9a-f]{64})$/.exec(
          request.headers.authorization ?? '',
        )
      const [, id = '', day = '', region = '', service = '', names = '', signature = ''] = parts ?? []
      if (parts === null) throw new AwsFailure('MissingAuthenticationTokenException', 'Missing Authentication Token')
      const entry = issued.get(id)
      if (entry === undefined || request.headers['x-amz-security-token'] !== entry.credentials.sessionToken)
        throw new AwsFailure('UnrecognizedClientException', 'The security token included in the request is invalid.')
      if (entry.expiresAt <= request.now)
        throw new AwsFailure('ExpiredTokenException', 'The security token included in the request is expired')
      const stamp = String(request.headers['x-amz-date'])
      if (Math.abs(epochOf(stamp) - request.now) > MAX_SKEW_MS) {
        const early = epochOf(stamp) > request.now
        throw new AwsFailure(
          'InvalidSignatureException',
          early ? `Signature not yet current: ${stamp}` : `Signature expired: ${stamp}`,
        )
      }
      const expected = sign(entry.credentials.secretAccessKey, request, { day, region, service, names, stamp })
      if (!timingSafeEqual(Buffer.from(expected), Buffer.from(signature))) {
        throw new AwsFailure(
          'InvalidSignatureException',
          'The request signature we calculated does not match the signature you provided.',
        )
      }
      return { principal: entry.principal, region, service }
    },
  }
}

/** https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html */
function sign(
  secret: string,
  { method, path, headers, body }: SignedRequest,
  scope: {
    readonly day: string
    readonly region: string
    readonly service: string
    readonly names: string
    readonly stamp: string
  },
): string {
  const names = scope.names.split(';')
  const lines = names.map(
    (name) =>
      `${name}:${String(headers[name] ?? '')
        .trim()
        .replace(/ +/g, ' ')}\n`,
  )
  const canonical = [method, path, '', lines.join(''), scope.names, sha256(body)].join('\n')
  const place = `${scope.day}/${scope.region}/${scope.service}/aws4_request`
  const text = ['AWS4-HMAC-SHA256', scope.stamp, place, sha256(Buffer.from(canonical))].join('\n')
  const key = [scope.day, scope.region, scope.service, 'aws4_request'].reduce(
    (previous: string | Buffer, part) => createHmac('sha256', previous).update(part).digest(),
    `AWS4${secret}`,
  )
  return createHmac('sha256', key).update(text).digest('hex')
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

/** `20260131T235959Z` → epoch milliseconds; NaN for anything else. */
function epochOf(stamp: string): number {
  return Date.parse(stamp.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z'))
}
