import { randomBytes } from 'node:crypto'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'

/** Access tokens and the impersonation of service accounts. */
export interface GcpIam {
  /** `http://127.0.0.1:<port>`, for the option `endpoint` of google-auth-library's `Impersonated`. */
  readonly endpoint: string
  /** An access token of a principal. */
  token(principal: string): string
  /** `undefined` for a token that is unknown or revoked. */
  principalOf(authorization: string | undefined): string | undefined
  /** A service account that `trusts` may impersonate. @defaultValue everybody */
  createServiceAccount(email: string, trusts?: (principal: string) => boolean): void
  /** All tokens of a principal are over; nobody impersonates it any more. */
  revoke(principal: string): void
  close(): Promise<void>
}

const LIFETIME_MS = 3_600_000

/** @see https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken */
export async function startGcpIam(): Promise<GcpIam> {
  const tokens = new Map<string, string>()
  const accounts = new Map<string, (principal: string) => boolean>()

  const server = createServer((request, response) => {
    const { status, body } = answer(request)
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
  })

  function answer(request: IncomingMessage): { readonly status: number; readonly body: unknown } {
    const email = /^\/v1\/projects\/-\/serviceAccounts\/([^:]+):generateAccessToken$/.exec(request.url ?? '')?.[1]
    const caller = iam.principalOf(request.headers.authorization)
    if (caller === undefined) return failure(401, 'UNAUTHENTICATED', 'Request had invalid authentication credentials.')
    if (email === undefined || accounts.get(decodeURIComponent(email))?.(caller) !== true)
      return failure(403, 'PERMISSION_DENIED', "Permission 'iam.serviceAccounts.getAccessToken' denied on resource.")
    const expireTime = new Date(Date.now() + LIFETIME_MS).toISOString()
    return { status: 200, body: { accessToken: iam.token(decodeURIComponent(email)), expireTime } }
  }

  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const iam: GcpIam = {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, // listening on TCP
    token(principal) {
      const token = `ya29.${randomBytes(24).toString('base64url')}`
      tokens.set(token, principal)
      return token
    },
    principalOf: (authorization) => tokens.get(authorization?.replace(/^Bearer /, '') ?? ''),
    createServiceAccount: (email, trusts = () => true) => void accounts.set(email, trusts),
    revoke(principal) {
      accounts.delete(principal)
      for (const [token, owner] of tokens) if (owner === principal) tokens.delete(token)
    },
    async close() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
  return iam
}

function failure(code: number, status: string, message: string) {
  return { status: code, body: { error: { code, status, message } } }
}
