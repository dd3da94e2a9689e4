import { randomBytes } from 'node:crypto'
import { expect, it } from 'vitest'
import { failure } from './calls.ts'
import type { CloudUnderTest } from './cloud-under-test.ts'
import { patientsUnder } from './patients.ts'

export interface RevocationOptions {
  readonly cloud: CloudUnderTest
  /** The next hundred calls are answered as a service that is down answers. */
  breakDown(): void
  /** Every Decrypt answers with this key, in an answer that is right otherwise. */
  answerWith(key: Uint8Array): void
}

/**
 * The promise of docs/kms, kept through the vendor's client: what the customer does to the key, the application feels
 * within `revocationBoundMs`. Time is a fake clock; the calls are real.
 */
export function revocationSuite({ cloud, breakDown, answerWith }: RevocationOptions): void {
  it('reads nothing later than the bound after the customer disabled the key, and everything again once it is enabled', async () => {
    const { cmk } = cloud.cmk()
    const { clock, start } = patientsUnder(cmk)
    const { fieldseal, seal, open } = start()
    const envelope = await seal('ada@example.org')
    expect(await open(envelope)).toBe('ada@example.org')
    cloud.emulator.disable(cmk.uri)
    clock.advance(30_000)
    expect(await open(envelope)).toBe('ada@example.org')
    clock.advance(fieldseal.revocationBoundMs('clinic-7').reachable)
    expect(await failure(open(envelope))).toMatchObject({ kind: 'denied', code: 'ERR_KMS_KEY_DISABLED' })
    expect(await failure(seal('eve@example.org'))).toMatchObject({ kind: 'denied' })
    cloud.emulator.enable(cmk.uri)
    clock.advance(60_000)
    expect(await open(envelope)).toBe('ada@example.org')
    await fieldseal.close()
  })

  it('reads on while nobody can reach the KMS, writes not, and stops at the hard limit', async () => {
    const { cmk } = cloud.cmk()
    const { clock, start } = patientsUnder(cmk)
    const { fieldseal, seal, open } = start()
    const envelope = await seal('ada@example.org')
    breakDown()
    clock.advance(899_000)
    expect(await open(envelope)).toBe('ada@example.org')
    expect(await failure(seal('eve@example.org'))).toMatchObject({ kind: 'unavailable' })
    clock.advance(2_000)
    expect(await failure(open(envelope))).toMatchObject({ kind: 'unavailable' })
    cloud.emulator.restore()
    // The breaker lets a trial through after some seconds.
    clock.advance(60_000)
    expect(await open(envelope)).toBe('ada@example.org')
    expect(cloud.emulator.calls.every(({ key }) => key === cmk.uri || key === '')).toBe(true)
    await fieldseal.close()
  })

  it('stays closed when the network fails after a denial', async () => {
    const { cmk } = cloud.cmk()
    const { clock, start } = patientsUnder(cmk)
    const { fieldseal, seal, open } = start()
    const envelope = await seal('ada@example.org')
    cloud.emulator.deny()
    clock.advance(301_000)
    expect(await failure(open(envelope))).toMatchObject({ kind: 'denied' })
    cloud.emulator.restore()
    breakDown()
    clock.advance(60_000)
    expect(['denied', 'unavailable']).toContain((await failure(open(envelope))).kind)
    await fieldseal.close()
  })

  it('asks the KMS once for three hundred readers of a cold process', async () => {
    const { cmk } = cloud.cmk()
    const { start } = patientsUnder(cmk)
    const envelope = await start().seal('ada@example.org')
    cloud.emulator.forgetCalls()
    const { fieldseal, open } = start()
    const values = await Promise.all(Array.from({ length: 300 }, () => open(envelope)))
    expect(new Set(values)).toEqual(new Set(['ada@example.org']))
    expect(cloud.emulator.calls.filter(({ operation }) => operation === 'Decrypt')).toHaveLength(1)
    await fieldseal.close()
  })

  it('notices when the KMS answers one blob with two keys', async () => {
    const { cmk } = cloud.cmk()
    const { clock, start } = patientsUnder(cmk)
    const { fieldseal, seal, open } = start()
    const envelope = await seal('ada@example.org')
    await open(envelope)
    const changed: string[] = []
    fieldseal.on('key.changed', ({ tenant }) => void changed.push(tenant))
    answerWith(randomBytes(32))
    clock.advance(301_000)
    expect(await failure(open(envelope))).toMatchObject({ kind: 'corrupt' })
    expect(changed).toEqual(['clinic-7'])
    await fieldseal.close()
  })
}
