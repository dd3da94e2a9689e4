import { randomBytes } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { failure, newKey, request } from '@fieldseal/kms-emulators/vitest'
import { describe, expect, it } from 'vitest'
import { useAws } from './support/aws.ts'

const aws = useAws()
const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64')

describe('a KMS that lies', () => {
  it('is not believed when it answers with the key of another CMK', async () => {
    const { cmk } = aws.cmk()
    const foreign = aws.emulator.createKey()
    const wrap = await cmk.wrap(newKey(), request())
    const KeyId = foreign
    aws.emulator.alter((answer) => ({ ...answer, KeyId, Plaintext: base64(randomBytes(32)) }))
    for (const work of [
      cmk.unwrap(wrap, request()),
      cmk.generate?.(request()),
      cmk.wrap(newKey(), request()),
      cmk.rewrap?.(wrap, request()),
    ])
      expect(await failure(work ?? Promise.resolve())).toMatchObject({ code: 'ERR_KMS_WRONG_KEY', kind: 'corrupt' })
  })

  it('is not believed when a rewrap began with the wrap of another CMK', async () => {
    const { cmk } = aws.cmk()
    const SourceKeyId = aws.emulator.createKey()
    const wrap = await cmk.wrap(newKey(), request())
    aws.emulator.alter((answer) => ({ ...answer, SourceKeyId }))
    expect((await failure(cmk.rewrap?.(wrap, request()) ?? Promise.resolve())).code).toBe('ERR_KMS_WRONG_KEY')
  })

  it('is not believed when it leaves out which key it used', async () => {
    const { cmk } = aws.cmk()
    const wrap = await cmk.wrap(newKey(), request())
    aws.emulator.alter(({ KeyId: _gone, ...answer }) => answer)
    expect((await failure(cmk.unwrap(wrap, request()))).code).toBe('ERR_KMS_INTEGRITY_FAILED')
  })

  it('cannot hand out a key that is short, long, empty or missing', async () => {
    const { cmk } = aws.cmk()
    const wrap = await cmk.wrap(newKey(), request())
    for (const length of [0, 1, 16, 31, 33, 64, 4_096]) {
      const undo = aws.emulator.alter((answer) => ({ ...answer, Plaintext: base64(randomBytes(length)) }))
      expect((await failure(cmk.unwrap(wrap, request()))).kind).toBe('corrupt')
      expect((await failure(cmk.generate?.(request()) ?? Promise.resolve())).code).toBe('ERR_KMS_INTEGRITY_FAILED')
      undo()
    }
    aws.emulator.alter(({ Plaintext: _gone, ...answer }) => answer)
    expect((await failure(cmk.unwrap(wrap, request()))).kind).toBe('corrupt')
  })

  it('cannot make us store a blob that is empty, missing or longer than a blob may be', async () => {
    const { cmk } = aws.cmk()
    for (const blob of ['', base64(randomBytes(6_145)), undefined]) {
      const undo = aws.emulator.alter((answer) => ({ ...answer, CiphertextBlob: blob }))
      expect((await failure(cmk.wrap(newKey(), request()))).code).toBe('ERR_KMS_INTEGRITY_FAILED')
      expect((await failure(cmk.generate?.(request()) ?? Promise.resolve())).code).toBe('ERR_KMS_INTEGRITY_FAILED')
      undo()
    }
  })

  it('cannot make us store a key version that is no id of key material', async () => {
    const { cmk } = aws.cmk()
    aws.emulator.alter((answer) => ({ ...answer, KeyMaterialId: 'x'.repeat(10_000) }))
    expect((await cmk.generate?.(request()))?.wrap).toEqual({
      blob: expect.any(Uint8Array),
      versionEvidence: 'unknown',
    })
  })

  it('changes nothing by fields that nobody asked for', async () => {
    const { cmk } = aws.cmk()
    const wrap = await cmk.wrap(newKey(), request())
    aws.emulator.alter((answer) => ({
      ...answer,
      EncryptionContext: { tenant: 'clinic-8' },
      extra: { deep: [1, 2, 3] },
      __proto__: { x: 1 },
    }))
    await cmk.unwrap(wrap, request())
  })

  it('cannot resolve an alias to something that is no key', async () => {
    aws.emulator.createKey({ alias: 'alias/odd' })
    const cmk = aws.kms({ region: 'eu-west-1' }).cmk('alias/odd')
    for (const Arn of [undefined, '', 'alias/odd', 'arn:aws:kms:eu-west-1:111122223333:alias/odd']) {
      const undo = aws.emulator.alter(() => ({ KeyMetadata: { KeyId: 'x', Arn } }))
      expect((await failure(cmk.canonicalUri?.(request()) ?? Promise.resolve())).code).toBe('ERR_KMS_INTEGRITY_FAILED')
      undo()
    }
  })
})

it('reads no more than 64 kB of an answer, however much is sent, and cuts the connection', async () => {
  let sent = 0
  const chunk = Buffer.alloc(65_536, 0x20)
  const server = createServer((_request, response) => {
    response.writeHead(200, { 'content-type': 'application/x-amz-json-1.1' })
    const pour = () => {
      while (!response.destroyed && sent < 500 * 1_048_576) {
        sent += chunk.length
        if (!response.write(chunk)) return void response.once('drain', pour)
      }
    }
    pour()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { cmk } = aws.cmk({ endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }) // listening on TCP
  const before = process.memoryUsage().rss
  expect((await failure(cmk.wrap(newKey(), request()))).code).toBe('ERR_KMS_INTEGRITY_FAILED')
  expect(process.memoryUsage().rss - before).toBeLessThan(150 * 1_048_576)
  expect(sent).toBeLessThan(32 * 1_048_576)
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
})

it('reads an answer that trickles in, and gives up with its signal when it takes too long', async () => {
  const { cmk } = aws.cmk()
  aws.emulator.slowBody(60, { times: 1 })
  await cmk.wrap(newKey(), request())
  aws.emulator.slowBody(2_000, { times: 1 })
  expect((await failure(cmk.wrap(newKey(), request({ signal: AbortSignal.timeout(80) })))).code).toBe('ERR_KMS_TIMEOUT')
})
