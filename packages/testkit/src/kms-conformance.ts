import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { inspect } from 'node:util'
import { type Cmk, isFieldsealError, type KmsRequest, SecretKey } from '@fieldseal/core/kms'
import type { TestRunner } from './test-runner.ts'

export interface KmsUnderTest {
  /** A CMK that may be used. */
  readonly cmk: Cmk
  /** Another CMK of the same KMS. */
  readonly other: Cmk
  /** Makes a new version of `cmk`. Absent = not tested, and said so in the name of the test. */
  rotate?(): Promise<void>
  /** Takes away and gives back the right to use `cmk`. */
  disable?(): Promise<void>
  enable?(): Promise<void>
  close?(): Promise<void>
}

export interface KmsConformanceOptions extends TestRunner {
  create(): Promise<KmsUnderTest>
}

const CONTEXT = {
  app: 'conformance',
  fieldseal: '1',
  tenant: 'ab',
  keyspace: 'default',
  purpose: 'wrap',
  kek: '00112233445566778899aabb',
}

/** What every KMS must do, whoever runs it. Cases of an optional ability run where it is there. */
export function kmsConformance({ create, describe, it }: KmsConformanceOptions): void {
  const each = (name: string, body: (kms: KmsUnderTest) => Promise<void>) =>
    it(name, async () => {
      const kms = await create()
      try {
        await body(kms)
      } finally {
        await kms.close?.()
      }
    })

  describe('KMS conformance', () => {
    each('unwraps to the key that was wrapped, in a buffer of its own', async ({ cmk }) => {
      const bytes = randomBytes(32)
      const wrap = await cmk.wrap(keyOf(bytes), request())
      const one = await cmk.unwrap(wrap, request())
      const two = await cmk.unwrap(wrap, request())
      assert.deepEqual(Buffer.from(one.exposeBytes()), bytes)
      one[Symbol.dispose]()
      assert.deepEqual(Buffer.from(two.exposeBytes()), bytes)
    })

    each('generates keys that its wraps open to, no two alike, where it can generate', async ({ cmk }) => {
      if (cmk.generate === undefined) return
      const made = await Promise.all(Array.from({ length: 3 }, async () => cmk.generate?.(request())))
      const seen = new Set<string>()
      for (const generated of made) {
        assert.ok(generated)
        assert.deepEqual(bytesOf(await cmk.unwrap(generated.wrap, request())), bytesOf(generated.key))
        seen.add(bytesOf(generated.key).toString('hex'))
      }
      assert.equal(seen.size, 3)
    })

    each('gives two wraps of the same key different blobs of at most facts.maxBlobBytes', async ({ cmk }) => {
      const bytes = randomBytes(32)
      const [a, b] = [await cmk.wrap(keyOf(bytes), request()), await cmk.wrap(keyOf(bytes), request())]
      assert.notDeepEqual(a.blob, b.blob)
      assert.ok(a.blob.length >= 1 && a.blob.length <= cmk.facts.maxBlobBytes && cmk.facts.maxBlobBytes <= 6_144)
    })

    each('does not unwrap under any other context', async ({ cmk }) => {
      const wrap = await cmk.wrap(keyOf(), request())
      const { kek: _kek, ...missing } = CONTEXT
      const others = [
        { ...CONTEXT, tenant: 'ac' },
        { ...CONTEXT, tenant: 'AB' },
        { ...CONTEXT, more: 'x' },
        missing,
        // The same characters, cut elsewhere: separators must not be ambiguous.
        { ...CONTEXT, tenant: 'a', tenantb: 'x' },
      ]
      for (const context of others) await rejects(cmk.unwrap(wrap, request(context)), ['corrupt'])
    })

    each('does not care for the order of the pairs of a context', async ({ cmk }) => {
      const wrap = await cmk.wrap(keyOf(), request())
      const reversed = Object.fromEntries(Object.entries(CONTEXT).reverse())
      await cmk.unwrap(wrap, request(reversed))
    })

    each('does not unwrap what another CMK wrapped', async ({ cmk, other }) => {
      const wrap = await cmk.wrap(keyOf(), request())
      await rejects(other.unwrap(wrap, request()), ['corrupt', 'denied'])
    })

    each('refuses an altered, cut, extended or empty blob', async ({ cmk }) => {
      const { blob } = await cmk.wrap(keyOf(), request())
      const altered = Array.from(blob, (_byte, i) => Uint8Array.from(blob, (byte, j) => (i === j ? byte ^ 0x01 : byte)))
      for (const bad of [...altered, blob.slice(0, -1), Uint8Array.of(...blob, 0), new Uint8Array(0)]) {
        await rejects(cmk.unwrap({ blob: bad, versionEvidence: 'unknown' }, request()), ['corrupt', 'denied', 'misuse'])
      }
    })

    each('names one canonical uri', async ({ cmk, other }) => {
      const uri = await cmk.canonicalUri?.(request())
      assert.equal(await cmk.canonicalUri?.(request()), uri)
      assert.notEqual(uri ?? cmk.uri, (await other.canonicalUri?.(request())) ?? other.uri)
      assert.match(cmk.provider, /^[a-z][a-z0-9-]{0,62}$/)
    })

    each('tells nothing of key, blob or context in an error', async ({ cmk }) => {
      const bytes = randomBytes(32)
      const wrap = await cmk.wrap(keyOf(bytes), request({ ...CONTEXT, tenant: 'canary-tenant' }))
      const error = await failure(cmk.unwrap(wrap, request({ ...CONTEXT, tenant: 'another-tenant' })))
      const text = inspect(error, { depth: 9, showHidden: true }) + JSON.stringify(error)
      for (const secret of [
        'canary-tenant',
        bytes.toString('hex'),
        bytes.toString('base64'),
        Buffer.from(wrap.blob).toString('hex'),
      ]) {
        assert.ok(!text.includes(secret), 'an error holds what it must not')
      }
      assert.equal((error as Error).cause, undefined)
    })

    each('ends at once when its signal is aborted before it begins', async ({ cmk }) => {
      const aborted = { context: CONTEXT, signal: AbortSignal.abort() }
      const error = await failure(cmk.wrap(keyOf(), aborted))
      assert.ok(isFieldsealError(error) && error.code === 'ERR_KMS_ABORTED')
    })

    each(
      'opens old wraps after a rotation and makes new ones under the new version, where it can rotate',
      async (kms) => {
        if (kms.rotate === undefined) return
        const before = await kms.cmk.wrap(keyOf(), request())
        await kms.rotate()
        const after = await kms.cmk.wrap(keyOf(), request())
        await kms.cmk.unwrap(before, request())
        await kms.cmk.unwrap(after, request())
        if (before.versionEvidence === 'reported') assert.notEqual(after.keyVersion, before.keyVersion)
        const moved = await kms.cmk.rewrap?.(before, request())
        if (moved !== undefined)
          assert.deepEqual(
            bytesOf(await kms.cmk.unwrap(moved, request())),
            bytesOf(await kms.cmk.unwrap(before, request())),
          )
      },
    )

    each('denies while it is disabled and works again afterwards, where it can be disabled', async (kms) => {
      if (kms.disable === undefined || kms.enable === undefined) return
      const wrap = await kms.cmk.wrap(keyOf(), request())
      await kms.disable()
      await rejects(kms.cmk.unwrap(wrap, request()), ['denied'])
      await rejects(kms.cmk.wrap(keyOf(), request()), ['denied'])
      if (kms.cmk.probe !== undefined) assert.equal(await kms.cmk.probe(wrap, request()), 'denied')
      await kms.enable()
      await kms.cmk.unwrap(wrap, request())
      if (kms.cmk.probe !== undefined) assert.equal(await kms.cmk.probe(wrap, request()), 'allowed')
    })
  })
}

function request(context: KmsRequest['context'] = CONTEXT): KmsRequest {
  return { context, signal: new AbortController().signal }
}

function keyOf(bytes: Uint8Array = randomBytes(32)): SecretKey {
  return new SecretKey(Uint8Array.from(bytes))
}

function bytesOf(key: SecretKey): Buffer {
  return Buffer.from(key.exposeBytes())
}

async function failure(work: Promise<unknown>): Promise<unknown> {
  try {
    await work
  } catch (error) {
    return error
  }
  throw new assert.AssertionError({ message: 'expected a rejection' })
}

async function rejects(work: Promise<unknown>, kinds: readonly string[]): Promise<void> {
  const error = await failure(work)
  assert.ok(isFieldsealError(error), 'a KMS throws FieldsealErrors')
  assert.ok(kinds.includes(error.kind), `expected kind ${kinds.join(' or ')}, got ${error.kind} (${error.code})`)
}
