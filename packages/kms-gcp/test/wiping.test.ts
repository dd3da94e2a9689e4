import { randomBytes } from 'node:crypto'
import { failure, request } from '@fieldseal/kms-emulators/vitest'
import { expect, it } from 'vitest'
import { crc32c } from '../src/crc32c.ts'
import { gcpCmk } from '../src/gcp-cmk.ts'

const wrap = { blob: randomBytes(64), versionEvidence: 'unknown' as const }

/** Asks a port whose client answers with these bytes when it is told to. */
function ask(plaintext: Uint8Array, until: Promise<void> = Promise.resolve(), signal = AbortSignal.timeout(10_000)) {
  const answer = { plaintext, plaintextCrc32c: { value: String(crc32c(plaintext)) } }
  const client = { decrypt: () => until.then(() => [answer]) }
  const cmk = gcpCmk({
    uri: 'projects/p/locations/global/keyRings/r/cryptoKeys/k',
    credentialScope: 'test',
    authClient: undefined,
    underWay: new Set(),
    use: (run) => run(client as never),
  })
  return cmk.unwrap(wrap, request({ signal }))
}

it('wipes the key in an answer, whether it was used, refused, or came too late', async () => {
  const used = randomBytes(32)
  await ask(used)
  const refused = randomBytes(31)
  expect((await failure(ask(refused))).kind).toBe('corrupt')
  const late = randomBytes(32)
  const { promise, resolve } = Promise.withResolvers<void>()
  expect((await failure(ask(late, promise, AbortSignal.timeout(20)))).code).toBe('ERR_KMS_TIMEOUT')
  resolve()
  await new Promise((done) => setImmediate(done))
  for (const bytes of [used, refused, late]) expect(bytes.every((byte) => byte === 0)).toBe(true)
})
