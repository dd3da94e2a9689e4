import type { KmsCalls } from '../cache/kms-calls.ts'
import type { RandomSource } from '../cipher/random.ts'
import type { EncryptionContext } from '../context/encryption-context.ts'
import { DEFAULT_KEYSPACE } from '../context/keyspace.ts'
import { RECORD_ID_BYTES, recordIdFrom } from '../context/record-id.ts'
import type { ErrorCode } from '../errors/codes.ts'
import { FieldsealError, isFieldsealError } from '../errors/fieldseal-error.ts'
import type { Cmk, CmkWrap, KmsRequest } from '../keys/cmk.ts'
import { KEY_LENGTH, SecretKey } from '../keys/secret-key.ts'
import type { EventBus, KmsOperation } from '../observe/events.ts'
import type { Keyrings } from './keyrings.ts'
import type { TenantKeyring } from './tenant-keys.ts'

export interface GrantOptions {
  /** How long a new grant may take to reach the KMS, in milliseconds: so long a refusal is asked again. @defaultValue 600_000 */
  readonly waitForGrantMs?: number
  /** How often it is asked meanwhile. @defaultValue 5_000 */
  readonly retryEveryMs?: number
}

export interface ActivateSettings {
  readonly app: string
  readonly keyrings: Keyrings
  readonly tenantKeys: TenantKeyring
  readonly calls: KmsCalls
  readonly random: RandomSource
  readonly events: EventBus
  /** Throws when there is no more sense in waiting. */
  readonly assertOpen: () => void
}

const DEFAULTS = Object.freeze({ waitForGrantMs: 600_000, retryEveryMs: 5_000 }) // grants take minutes on AWS and Google
const PURPOSE = 'activate'
/** No user's tenant may begin with `$`. */
const OTHER_TENANT = '$other'
/** What a KMS answers while a grant is on its way. */
const NOT_YET: ReadonlySet<ErrorCode> = new Set([
  'ERR_KMS_ACCESS_DENIED',
  'ERR_KMS_KEY_NOT_FOUND',
  'ERR_KMS_TENANT_CREDENTIALS_DENIED',
])

/**
 * Proves that each configured CMK of a tenant wraps and unwraps under this tenant's context, and under no other's where
 * it says that it binds the context; then runs `makeKeys`. A refusal is asked again until the grant can have arrived.
 * Changes nothing that is there, so it may be repeated.
 *
 * @throws FieldsealError ERR_ACTIVATION_REFUSED when a CMK fails the proof, ERR_TENANT_UNKNOWN, and whatever a KMS says for longer than
 * a grant takes
 */
export async function activate(
  tenant: string,
  options: GrantOptions,
  makeKeys: () => Promise<void>,
  settings: ActivateSettings,
): Promise<void> {
  const { waitForGrantMs, retryEveryMs } = checkedOptions(options)
  const { keyrings, tenantKeys, events, assertOpen } = settings
  keyrings.purge(tenant) // the configuration as it is now, and no denial of before the grant
  const { cmks, policy } = await tenantKeys.get(tenant, 'write')
  const startedAt = performance.now()

  async function patiently(what: string, run: () => Promise<void>): Promise<void> {
    for (let waiting = false; ; ) {
      assertOpen()
      try {
        return await run()
      } catch (error) {
        const waitedMs = performance.now() - startedAt
        const code = isFieldsealError(error) ? error.code : 'ERR_KMS_UNKNOWN'
        waiting ||= NOT_YET.has(code)
        const passes = NOT_YET.has(code) || (waiting && isFieldsealError(error) && error.kind === 'unavailable')
        if (!passes || waitedMs + retryEveryMs > waitForGrantMs) throw error
        events.emit('activation.waiting', { tenant, what, code, waitedMs })
        await new Promise((resolve) => setTimeout(resolve, retryEveryMs))
      }
    }
  }

  await Promise.all(
    cmks.map((cmk) =>
      patiently(`${cmk.provider} ${cmk.uri}`, () => challenge(cmk, tenant, policy.callDeadlineMs, settings)),
    ),
  )
  await patiently('keys', async () => {
    keyrings.purge(tenant) // a denial of a moment ago is remembered
    await makeKeys()
  })
}

async function challenge(
  cmk: Cmk,
  tenant: string,
  deadlineMs: number,
  { app, calls, random }: ActivateSettings,
): Promise<void> {
  const kek = recordIdFrom(random.bytes(RECORD_ID_BYTES))
  const context = { app, fieldseal: '1', tenant, keyspace: DEFAULT_KEYSPACE, purpose: PURPOSE, kek }
  const call = <R>(operation: KmsOperation, under: EncryptionContext, run: (request: KmsRequest) => Promise<R>) =>
    calls.call(cmk, { operation, context: under, deadlineMs }, run)
  const unwrap = (under: EncryptionContext) => call('unwrap', under, (request) => cmk.unwrap(wrap, request))
  const key = new SecretKey(random.bytes(KEY_LENGTH))
  const seen = [key]
  let wrap: CmkWrap
  try {
    wrap = await call('wrap', context, (request) => cmk.wrap(key, request))
    const back = await unwrap(context)
    seen.push(back)
    if (!back.equals(key)) throw refused(tenant, cmk, 'unwrapped to another key than was wrapped')
    if (!cmk.facts.bindsContext) return
    const taken = await unwrap({ ...context, tenant: OTHER_TENANT }).catch(refusalOnly)
    if (taken === undefined) return
    seen.push(taken)
    throw refused(tenant, cmk, "unwrapped under another tenant's context")
  } finally {
    for (const one of seen) one[Symbol.dispose]()
  }
}

function refusalOnly(error: unknown): undefined {
  if (!isFieldsealError(error) || (error.kind !== 'corrupt' && error.kind !== 'denied')) throw error
}

function refused(tenant: string, { provider }: Cmk, reason: string): FieldsealError {
  return new FieldsealError('ERR_ACTIVATION_REFUSED', { tenant, provider, reason })
}

function checkedOptions(options: GrantOptions): Required<GrantOptions> {
  const asked = { ...DEFAULTS, ...options }
  for (const option of ['waitForGrantMs', 'retryEveryMs'] as const)
    if (!Number.isSafeInteger(asked[option]) || asked[option] < (option === 'retryEveryMs' ? 1 : 0))
      throw new FieldsealError('ERR_ARGUMENT_INVALID', { field: option, reason: 'whole milliseconds' })
  return asked
}
