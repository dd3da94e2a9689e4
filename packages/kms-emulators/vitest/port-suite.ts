import { randomBytes } from 'node:crypto'
import { expect, it } from 'vitest'
import { failure, newKey, request } from './calls.ts'
import type { CloudUnderTest } from './cloud-under-test.ts'

/** More calls at once than one connection of Google's carries. */
const HANGING = 120

/** How a port behaves whatever its cloud: signals, scopes, clients, buffers, the end. */
export function portSuite(cloud: CloudUnderTest): void {
  it('ends at once at its signal and sends nothing more', async () => {
    const { cmk } = cloud.cmk()
    await cmk.wrap(newKey(), request())
    cloud.emulator.hang()
    const stop = new AbortController()
    const call = failure(cmk.wrap(newKey(), request({ signal: stop.signal })))
    await sleep(60)
    const abortedAt = performance.now()
    stop.abort()
    expect((await call).code).toBe('ERR_KMS_ABORTED')
    expect(performance.now() - abortedAt).toBeLessThan(200)
    const late = failure(cmk.wrap(newKey(), request({ signal: AbortSignal.timeout(40) })))
    expect((await late).code).toBe('ERR_KMS_TIMEOUT')
    await expect.poll(() => cloud.emulator.calls.length).toBe(3)
    await sleep(30)
    expect(cloud.emulator.calls).toHaveLength(3)
  })

  it(`answers one scope at once while ${HANGING} calls of another hang`, async () => {
    const kms = cloud.kms()
    const hung = cloud.emulator.createKey()
    const free = cloud.emulator.createKey()
    cloud.emulator.hang({ only: { key: hung } })
    const stop = new AbortController()
    const hanging = Array.from({ length: HANGING }, () =>
      failure(kms.cmk(hung, { credentialScope: 'hung' }).wrap(newKey(), request({ signal: stop.signal }))),
    )
    await sleep(50)
    const started = performance.now()
    await kms.cmk(free, { credentialScope: 'free' }).wrap(newKey(), request())
    expect(performance.now() - started).toBeLessThan(1_000)
    stop.abort()
    expect(new Set((await Promise.all(hanging)).map(({ code }) => code))).toEqual(new Set(['ERR_KMS_ABORTED']))
    await kms.close?.()
  })

  it('answers for more scopes than it may hold clients', async () => {
    const kms = cloud.kms({ maxClients: 2 })
    const key = cloud.emulator.createKey()
    const ports = Array.from({ length: 6 }, (_, i) => kms.cmk(key, { credentialScope: `tenant-${i}` }))
    for (let round = 0; round < 2; round++) await Promise.all(ports.map((port) => port.wrap(newKey(), request())))
    expect(cloud.emulator.calls.filter((call) => call.key === key)).toHaveLength(12)
    await kms.close?.()
  })

  it('hands out keys in buffers of their own and keeps the caller’s key untouched', async () => {
    const { cmk } = cloud.cmk()
    const bytes = randomBytes(32)
    const key = newKey(bytes)
    const opened = await cmk.unwrap(await cmk.wrap(key, request()), request())
    expect(opened.exposeBytes().buffer.byteLength).toBe(32)
    expect(Buffer.from(key.exposeBytes()).equals(bytes)).toBe(true)
  })

  it('refuses a stored blob of no legal length before it asks anybody', async () => {
    const { cmk } = cloud.cmk()
    for (const length of [0, 6_145, 1_000_000]) {
      const wrap = { blob: new Uint8Array(length), versionEvidence: 'unknown' as const }
      expect((await failure(cmk.unwrap(wrap, request()))).kind).toBe('corrupt')
      if (cmk.rewrap !== undefined) expect((await failure(cmk.rewrap(wrap, request()))).kind).toBe('corrupt')
    }
    expect(cloud.emulator.calls).toEqual([])
  })

  it('closes twice without harm and refuses calls afterwards', async () => {
    const kms = cloud.kms()
    const cmk = kms.cmk(cloud.emulator.createKey())
    await cmk.wrap(newKey(), request())
    await kms.close?.()
    await kms.close?.()
    expect((await failure(cmk.wrap(newKey(), request()))).code).toBe('ERR_CLOSED')
  })

  it('ends the calls under way when it is closed', async () => {
    const kms = cloud.kms()
    const cmk = kms.cmk(cloud.emulator.createKey())
    await cmk.wrap(newKey(), request())
    cloud.emulator.hang()
    const calls = [failure(cmk.wrap(newKey(), request())), failure(cmk.wrap(newKey(), request()))]
    await sleep(30)
    await kms.close?.()
    expect((await Promise.all(calls)).map(({ code }) => code)).toEqual(['ERR_KMS_ABORTED', 'ERR_KMS_ABORTED'])
    // At the other end too: what hung is over, and was not sent again.
    await expect.poll(() => cloud.emulator.calls.length).toBe(3)
  })
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
