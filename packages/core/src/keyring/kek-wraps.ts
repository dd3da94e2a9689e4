import type { Clock } from '../cache/clock.ts'
import type { KmsCalls } from '../cache/kms-calls.ts'
import type { RandomSource } from '../cipher/random.ts'
import type { EncryptionContext } from '../context/encryption-context.ts'
import type { KekId } from '../context/record-id.ts'
import { MAX_BLOB_BYTES, MAX_LABEL_BYTES } from '../envelope/layout.ts'
import { dispositionOf, FieldsealError } from '../errors/fieldseal-error.ts'
import type { Cmk, CmkWrap, KmsRequest } from '../keys/cmk.ts'
import type { KeyspaceRef } from '../keys/key-store.ts'
import type { KekPurpose, KekRecord, StoredWrap } from '../keys/records.ts'
import { KEY_LENGTH, SecretKey } from '../keys/secret-key.ts'
import type { KmsOperation } from '../observe/events.ts'
import type { ResolvedTenantKeys } from './tenant-keys.ts'

/** A KEK unwrapped by one of its legs, and when each leg was last asked (monotonic milliseconds). */
export interface UnwrappedKek {
  readonly key: SecretKey
  readonly legsCheckedAt: ReadonlyMap<string, number>
}

/** KEKs ⇄ their wraps by the CMKs that the tenant's configuration names; the record names none of its own choice. */
export interface KekWraps {
  /** A new KEK with a verified wrap by each CMK of `keys`, at least `minWraps`. */
  create(
    context: EncryptionContext,
    keys: ResolvedTenantKeys,
  ): Promise<{ readonly key: SecretKey; readonly wraps: readonly StoredWrap[] }>
  wrapUnder(cmk: Cmk, key: SecretKey, context: EncryptionContext, keys: ResolvedTenantKeys): Promise<StoredWrap>
  /** As `wrapUnder`, and seen to open to the same key. @throws FieldsealError ERR_KMS_INTEGRITY_FAILED */
  verifiedWrap(cmk: Cmk, key: SecretKey, context: EncryptionContext, keys: ResolvedTenantKeys): Promise<StoredWrap>
  /** A wrap made anew by the newest version of the CMK that made `wrap`, inside the KMS where it can; seen to open to `key`. */
  renewedWrap(
    cmk: Cmk,
    wrap: StoredWrap,
    key: SecretKey,
    context: EncryptionContext,
    keys: ResolvedTenantKeys,
  ): Promise<StoredWrap>
  /** The version that a CMK would wrap with now, where it tells. */
  currentVersion(cmk: Cmk, context: EncryptionContext, keys: ResolvedTenantKeys): Promise<string | undefined>
  unwrapWith(cmk: Cmk, wrap: StoredWrap, context: EncryptionContext, keys: ResolvedTenantKeys): Promise<SecretKey>
  /**
   * Opens a KEK by its first leg that answers. A leg that denies closes the key (`revocation: 'any-leg'`); legs not
   * asked for long are asked again. `checkedAt` is what the previous unwrap returned.
   */
  unwrap(
    record: KekRecord,
    context: EncryptionContext,
    keys: ResolvedTenantKeys,
    checkedAt: ReadonlyMap<string, number> | undefined,
  ): Promise<UnwrappedKek>
  /** The name that is stored for what `cmk` wraps. */
  canonicalUri(cmk: Cmk, context: EncryptionContext, keys: ResolvedTenantKeys): Promise<string>
  /** The wrap of `record` that `cmk` made. */
  wrapOf(
    record: KekRecord,
    cmk: Cmk,
    context: EncryptionContext,
    keys: ResolvedTenantKeys,
  ): Promise<StoredWrap | undefined>
}

/** What a KMS authenticates with a KEK: opaque facts from the reader's expectation, never from a record. */
export function kekContext(ref: KeyspaceRef, purpose: KekPurpose, id: KekId): EncryptionContext {
  return { app: ref.app, fieldseal: '1', tenant: ref.tenant, keyspace: ref.keyspace, purpose, kek: id }
}

interface Leg {
  readonly cmk: Cmk
  readonly wrap: StoredWrap
  readonly name: string
}

export function createKekWraps({
  calls,
  clock,
  random,
}: {
  readonly calls: KmsCalls
  readonly clock: Clock
  readonly random: RandomSource
}): KekWraps {
  const canonicalUris = new WeakMap<Cmk, { readonly uri: string; readonly at: number }>()

  function call<R>(
    cmk: Cmk,
    operation: KmsOperation,
    context: EncryptionContext,
    keys: ResolvedTenantKeys,
    run: (request: KmsRequest) => Promise<R>,
  ) {
    return calls.call(cmk, { operation, context, deadlineMs: keys.policy.callDeadlineMs }, run)
  }

  async function canonicalUri(cmk: Cmk, context: EncryptionContext, keys: ResolvedTenantKeys): Promise<string> {
    if (cmk.canonicalUri === undefined) return cmk.uri
    const known = canonicalUris.get(cmk)
    if (known !== undefined && clock.monotonic() - known.at < keys.policy.validForMs) return known.uri
    const uri = await call(
      cmk,
      'canonicalUri',
      context,
      keys,
      async (request) => cmk.canonicalUri?.(request) ?? cmk.uri,
    )
    canonicalUris.set(cmk, { uri, at: clock.monotonic() })
    return uri
  }

  async function stored(
    cmk: Cmk,
    wrap: CmkWrap,
    context: EncryptionContext,
    keys: ResolvedTenantKeys,
  ): Promise<StoredWrap> {
    assertStorable(cmk, wrap)
    return {
      provider: cmk.provider,
      uri: await canonicalUri(cmk, context, keys),
      blob: wrap.blob,
      ...(wrap.keyVersion === undefined ? {} : { keyVersion: wrap.keyVersion }),
      versionEvidence: wrap.versionEvidence,
      wrappedAt: clock.now(),
    }
  }

  async function verify(
    cmk: Cmk,
    wrap: StoredWrap,
    key: SecretKey,
    context: EncryptionContext,
    keys: ResolvedTenantKeys,
  ): Promise<void> {
    const back = await wraps.unwrapWith(cmk, wrap, context, keys)
    try {
      if (back.equals(key)) return
    } finally {
      back[Symbol.dispose]()
    }
    throw new FieldsealError('ERR_KMS_INTEGRITY_FAILED', {
      provider: cmk.provider,
      reason: 'the new wrap opens to another key',
    })
  }

  /** The legs among `cmks`; `tolerate` hears of those whose name nobody tells, and may throw. */
  async function findLegs(
    cmks: readonly Cmk[],
    record: KekRecord,
    context: EncryptionContext,
    keys: ResolvedTenantKeys,
    tolerate: (error: unknown) => void,
  ): Promise<Leg[]> {
    const found = cmks.map(async (cmk): Promise<Leg | undefined> => {
      try {
        const wrap = await wraps.wrapOf(record, cmk, context, keys)
        return wrap && { cmk, wrap, name: `${wrap.provider} ${wrap.uri}` }
      } catch (error) {
        tolerate(error)
        return undefined
      }
    })
    return (await Promise.all(found)).filter((leg) => leg !== undefined)
  }

  /** Asks a leg that did not open the key whether it may still be used. No answer is none. @throws when it denies */
  async function check({ cmk, wrap }: Leg, context: EncryptionContext, keys: ResolvedTenantKeys): Promise<void> {
    try {
      if (cmk.probe === undefined) {
        const key = await wraps.unwrapWith(cmk, wrap, context, keys)
        key[Symbol.dispose]()
        return
      }
      await call(cmk, 'probe', context, keys, (request) => probed(cmk, wrap, request))
    } catch (error) {
      if (dispositionOf(error) !== 'serve-stale') throw error
    }
  }

  const wraps: KekWraps = {
    canonicalUri,
    async create(context, keys) {
      const [first] = keys.cmks
      const failures: unknown[] = []
      let generated: Awaited<ReturnType<NonNullable<Cmk['generate']>>> | undefined
      if (first?.generate !== undefined) {
        try {
          generated = await call(first, 'generate', context, keys, async (request) => first.generate?.(request))
        } catch (error) {
          if (dispositionOf(error) !== 'serve-stale') throw error
          failures.push(error)
        }
      }
      const key = generated?.key ?? new SecretKey(random.bytes(KEY_LENGTH))
      try {
        const wrapping = keys.cmks.map(async (cmk, i) => {
          if (i > 0 || first?.generate === undefined) return wraps.verifiedWrap(cmk, key, context, keys)
          if (generated === undefined) return undefined
          const wrap = await stored(cmk, generated.wrap, context, keys)
          await verify(cmk, wrap, key, context, keys)
          return wrap
        })
        const made: StoredWrap[] = []
        // All are waited for: a key is not zeroed while a provider still reads it.
        for (const outcome of await Promise.allSettled(wrapping)) {
          if (outcome.status === 'rejected') failures.push(outcome.reason)
          else if (outcome.value !== undefined) made.push(outcome.value)
        }
        for (const error of failures) if (dispositionOf(error) !== 'serve-stale') throw error
        if (made.length < keys.minWraps)
          throw failures[0] ?? new FieldsealError('ERR_KMS_CONFIG', { reason: 'fewer wraps than minWraps' })
        return { key, wraps: made }
      } catch (error) {
        key[Symbol.dispose]()
        throw error
      }
    },

    async verifiedWrap(cmk, key, context, keys) {
      const wrap = await wraps.wrapUnder(cmk, key, context, keys)
      await verify(cmk, wrap, key, context, keys)
      return wrap
    },

    async renewedWrap(cmk, wrap, key, context, keys) {
      if (cmk.rewrap === undefined) return wraps.verifiedWrap(cmk, key, context, keys)
      const made = await call(cmk, 'rewrap', context, keys, async (request) => cmk.rewrap?.(wrap, request) ?? wrap)
      const renewed = await stored(cmk, made, context, keys)
      await verify(cmk, renewed, key, context, keys)
      return renewed
    },

    async currentVersion(cmk, context, keys) {
      if (cmk.describe === undefined) return undefined
      return (await call(cmk, 'describe', context, keys, async (request) => cmk.describe?.(request)))?.currentVersion
    },

    async wrapUnder(cmk, key, context, keys) {
      return stored(cmk, await call(cmk, 'wrap', context, keys, (request) => cmk.wrap(key, request)), context, keys)
    },

    unwrapWith: (cmk, wrap, context, keys) =>
      call(cmk, 'unwrap', context, keys, (request) => cmk.unwrap(wrap, request)),

    async unwrap(record, context, keys, checkedAt) {
      const failures: unknown[] = []
      const tolerate = (error: unknown) => {
        const disposition = dispositionOf(error)
        const passes = disposition === 'serve-stale' || (disposition === 'revoke' && keys.revocation === 'all-legs')
        if (!passes) throw error
        failures.push(error)
      }
      let legs = await findLegs(keys.cmks, record, context, keys, tolerate)
      // A former CMK opens only what no current one has wrapped: after a move the customer disables it.
      if (legs.length === 0 && failures.length === 0)
        legs = await findLegs(keys.formerCmks, record, context, keys, tolerate)
      if (legs.length === 0 && failures.length === 0) {
        throw new FieldsealError('ERR_KMS_CONFIG', {
          tenant: context['tenant'] ?? '',
          kekId: record.id,
          reason: 'no configured CMK has wrapped this key',
          hint: 'name the CMK that did under formerCmks until the move is applied',
        })
      }
      const now = clock.monotonic()
      const checked = new Map<string, number>()
      let key: SecretKey | undefined
      const ask = async (leg: Leg, question: () => Promise<unknown>) => {
        try {
          await question()
        } catch (error) {
          tolerate(error)
        }
        checked.set(leg.name, now) // asked; one that does not answer is asked again in as long
      }
      try {
        const further = [...legs]
        for (let leg = further.shift(); leg !== undefined; leg = key === undefined ? further.shift() : undefined) {
          const { cmk, wrap } = leg
          await ask(leg, async () => (key = await wraps.unwrapWith(cmk, wrap, context, keys)))
        }
        // Invariant: every leg was asked within validForMs, before the first use too.
        await Promise.all(
          further.map(async (leg) => {
            const lastAt = checkedAt?.get(leg.name)
            const due = lastAt === undefined || now - lastAt + keys.policy.refreshAfterMs >= keys.policy.validForMs
            if (due) await ask(leg, () => check(leg, context, keys))
            else checked.set(leg.name, lastAt)
          }),
        )
      } catch (error) {
        key?.[Symbol.dispose]()
        throw error
      }
      // As long as one leg did not answer, it is not known that all deny.
      if (key === undefined) throw failures.find((error) => dispositionOf(error) === 'serve-stale') ?? failures[0]
      return { key, legsCheckedAt: checked }
    },

    async wrapOf(record, cmk, context, keys) {
      if (!record.wraps.some((wrap) => wrap.provider === cmk.provider)) return undefined
      const uri = await canonicalUri(cmk, context, keys)
      return record.wraps.find((wrap) => wrap.provider === cmk.provider && wrap.uri === uri)
    },
  }
  return wraps
}

/** Asks `probe` and throws what it tells, so that a call that was denied counts as one. */
export async function probed(cmk: Cmk, wrap: CmkWrap | undefined, request: KmsRequest): Promise<void> {
  const answer = await cmk.probe?.(wrap, request)
  if (answer === 'denied') throw new FieldsealError('ERR_KMS_ACCESS_DENIED', { provider: cmk.provider })
  if (answer === 'unreachable') throw new FieldsealError('ERR_KMS_UNAVAILABLE', { provider: cmk.provider })
}

/** What has a wrap beyond its limits could not be read again. @throws FieldsealError ERR_KMS_CONFIG */
export function assertStorable({ provider }: Cmk, { blob, keyVersion = '-' }: CmkWrap): void {
  const label = Buffer.byteLength(keyVersion)
  if (blob.length > 0 && blob.length <= MAX_BLOB_BYTES && label > 0 && label <= MAX_LABEL_BYTES) return
  throw new FieldsealError('ERR_KMS_CONFIG', {
    provider,
    reason: `a wrap must have a blob of 1–${MAX_BLOB_BYTES} bytes and a key version of at most ${MAX_LABEL_BYTES}`,
  })
}
