import { randomBytes } from 'node:crypto'
import { failure, request } from '@fieldseal/kms-emulators/vitest'
import { expect, it } from 'vitest'
import { awsCmk } from '../src/aws-cmk.ts'
import { parseKeyUri } from '../src/key-ref.ts'

const uri = 'arn:aws:kms:eu-west-1:111122223333:key/1'
const wrap = { blob: randomBytes(64), versionEvidence: 'unknown' as const }

/** A port whose SDK answers with these bytes when it is told to. */
function portWith(Plaintext: Uint8Array, until: Promise<void> = Promise.resolve()) {
  const answer = { Plaintext, KeyId: uri, CiphertextBlob: randomBytes(64), $metadata: {} }
  const client = { send: () => until.then(() => answer) }
  return awsCmk({
    uri,
    ref: parseKeyUri(uri, undefined),
    credentialScope: 'test',
    grantTokens: [],
    underWay: new Set(),
    client: () => client as never,
    forgetClient: () => undefined,
  })
}

it('wipes the key in an answer, whether it was used, refused, or came too late', async () => {
  for (const call of ['unwrap', 'generate'] as const) {
    const ask = (plaintext: Uint8Array, until?: Promise<void>, signal = AbortSignal.timeout(10_000)) => {
      const cmk = portWith(plaintext, until)
      const work = call === 'unwrap' ? cmk.unwrap(wrap, request({ signal })) : cmk.generate?.(request({ signal }))
      return work ?? Promise.resolve()
    }
    const used = randomBytes(32)
    await ask(used)
    const refused = randomBytes(31)
    expect((await failure(ask(refused))).code).toMatch(/INVALID|INTEGRITY/)
    const late = randomBytes(32)
    const { promise, resolve } = Promise.withResolvers<void>()
    expect((await failure(ask(late, promise, AbortSignal.timeout(20)))).code).toBe('ERR_KMS_TIMEOUT')
    resolve()
    await new Promise((done) => setImmediate(done))
    for (const bytes of [used, refused, late]) expect(bytes.every((byte) => byte === 0)).toBe(true)
  }
})
