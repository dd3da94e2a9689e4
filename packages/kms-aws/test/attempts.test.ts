import { createServer as createHttpServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createFieldseal } from '@fieldseal/core'
import { attach } from '@fieldseal/core/adapter'
import { failure, newKey, request } from '@fieldseal/kms-emulators/vitest'
import { memoryKeyStore } from '@fieldseal/testkit'
import { describe, expect, it } from 'vitest'
import { useAws } from './support/aws.ts'

const aws = useAws()

describe('one attempt per call', () => {
  it('sends a call once, whatever the answer', async () => {
    const { cmk } = aws.cmk()
    for (const arrange of [
      () => aws.emulator.throttle({ times: 1 }),
      () => void aws.emulator.fail('KMSInternalException', { status: 500 }),
      () => aws.emulator.drop({ times: 1 }),
    ]) {
      aws.emulator.forgetCalls()
      arrange()
      await failure(cmk.wrap(newKey(), request()))
      await new Promise((resolve) => setTimeout(resolve, 20))
      expect(aws.emulator.calls).toHaveLength(1)
    }
  })

  it('passes on how long AWS asks us to wait', async () => {
    const { cmk } = aws.cmk()
    aws.emulator.throttle({ times: 1, retryAfterSeconds: 3 })
    expect(await failure(cmk.wrap(newKey(), request()))).toMatchObject({ retryAfterMs: 3_000 })
  })

  it('lets core repeat what is throttled, and send a denial once', async () => {
    const { arn, cmk } = aws.cmk()
    const fieldseal = createFieldseal({
      app: 'clinic',
      tenancy: 'single',
      keys: { cmks: [cmk] },
      keyStore: memoryKeyStore(),
    })
    const host = attach(fieldseal, { name: 'test', ormVersion: '0' })
    const map = host.defineModel({
      id: 'patients',
      options: {},
      fields: [{ path: 'email', type: 'string', options: {} }],
      rowKey: [{ path: 'id', kind: 'uuid' }],
    })
    const { field } = map.at('email')
    if (field === undefined) throw new Error('no field')
    const seal = () => {
      const context = host.capture()
      const facts = map.facts({ id: 'b5a1f6de-3f7c-4ac3-9a2e-4f0a8b0b5f01' }, context)
      return host.cipher.seal([{ map, facts, cells: [{ field, value: 'ada@example.org' }] }], context)
    }
    const sent = () => aws.emulator.calls.filter(({ operation }) => operation === 'GenerateDataKey').length
    const undo = aws.emulator.deny({ key: arn })
    expect((await failure(seal())).kind).toBe('denied')
    expect(sent()).toBe(1)
    undo()
    aws.emulator.throttle({ times: 2 })
    await seal()
    expect(sent()).toBe(1 + 3)
    await fieldseal.close()
  })
})

describe('answers that are not from AWS', () => {
  const answers = async (listener: RequestListener) => {
    const server = createHttpServer(listener)
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as AddressInfo // listening on TCP
    const { cmk } = aws.cmk({ endpoint: `http://127.0.0.1:${port}` })
    const error = await failure(cmk.wrap(newKey(), request()))
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
    return error.code
  }

  it('calls a page of a proxy an answer that cannot be trusted', async () => {
    const page = '<html>Please log in</html>'
    expect(await answers((_request, response) => void response.writeHead(200).end(page))).toBe(
      'ERR_KMS_INTEGRITY_FAILED',
    )
    expect(await answers((_request, response) => void response.writeHead(503).end(page))).toBe('ERR_KMS_UNAVAILABLE')
    expect(await answers((_request, response) => void response.writeHead(200).end('{}'))).toBe(
      'ERR_KMS_INTEGRITY_FAILED',
    )
  })
})
