import { randomBytes } from 'node:crypto'
import { expect, it } from 'vitest'
import { crc32c } from '../src/crc32c.ts'
import { failure, useGcp } from './support/gcp.ts'
import { patientsUnder } from './support/patients.ts'

// The promise of docs/kms, kept through the vendor's client: what the customer does to the key, the application feels
// within `revocationBoundMs`. Time is a fake clock; the calls are real.

const gcp = useGcp()
const unwraps = () => gcp.emulator.calls.filter(({ operation }) => operation === 'Decrypt').length

it('reads nothing later than the bound after the customer disabled the key, and everything again once it is enabled', async () => {
  const { name, cmk } = gcp.cmk()
  const { clock, start } = patientsUnder(cmk)
  const { fieldseal, seal, open } = start()
  const envelope = await seal('ada@example.org')
  expect(await open(envelope)).toBe('ada@example.org')
  gcp.emulator.disable(name)
  clock.advance(30_000)
  expect(await open(envelope)).toBe('ada@example.org')
  clock.advance(fieldseal.revocationBoundMs('clinic-7').reachable)
  expect(await failure(open(envelope))).toMatchObject({ kind: 'denied', code: 'ERR_KMS_KEY_DISABLED' })
  expect(await failure(seal('eve@example.org'))).toMatchObject({ kind: 'denied' })
  gcp.emulator.enable(name)
  clock.advance(60_000)
  expect(await open(envelope)).toBe('ada@example.org')
  await fieldseal.close()
})

it('reads on while nobody can reach the KMS, writes not, and stops at the hard limit', async () => {
  const { name, cmk } = gcp.cmk()
  const { clock, start } = patientsUnder(cmk)
  const { fieldseal, seal, open } = start()
  const envelope = await seal('ada@example.org')
  gcp.emulator.fail('UNAVAILABLE', { times: 100 })
  clock.advance(899_000)
  expect(await open(envelope)).toBe('ada@example.org')
  expect(await failure(seal('eve@example.org'))).toMatchObject({ kind: 'unavailable' })
  clock.advance(2_000)
  expect(await failure(open(envelope))).toMatchObject({ kind: 'unavailable' })
  gcp.emulator.restore()
  // The breaker lets a trial through after some seconds.
  clock.advance(60_000)
  expect(await open(envelope)).toBe('ada@example.org')
  expect(gcp.emulator.calls.every(({ key }) => key === name || key === '')).toBe(true)
  await fieldseal.close()
})

it('stays closed when the network fails after a denial', async () => {
  const { cmk } = gcp.cmk()
  const { clock, start } = patientsUnder(cmk)
  const { fieldseal, seal, open } = start()
  const envelope = await seal('ada@example.org')
  gcp.emulator.deny()
  clock.advance(301_000)
  expect(await failure(open(envelope))).toMatchObject({ kind: 'denied' })
  gcp.emulator.restore()
  gcp.emulator.fail('UNAVAILABLE', { times: 100 })
  clock.advance(60_000)
  expect(['denied', 'unavailable']).toContain((await failure(open(envelope))).kind)
  await fieldseal.close()
})

it('asks the KMS once for three hundred readers of a cold process', async () => {
  const { cmk } = gcp.cmk()
  const { start } = patientsUnder(cmk)
  const envelope = await start().seal('ada@example.org')
  gcp.emulator.forgetCalls()
  const { fieldseal, open } = start()
  const values = await Promise.all(Array.from({ length: 300 }, () => open(envelope)))
  expect(new Set(values)).toEqual(new Set(['ada@example.org']))
  expect(unwraps()).toBe(1)
  await fieldseal.close()
})

it('notices when the KMS answers one blob with two keys', async () => {
  const { cmk } = gcp.cmk()
  const { clock, start } = patientsUnder(cmk)
  const { fieldseal, seal, open } = start()
  const envelope = await seal('ada@example.org')
  await open(envelope)
  const changed: string[] = []
  fieldseal.on('key.changed', ({ tenant }) => void changed.push(tenant))
  const other = randomBytes(32)
  gcp.emulator.alter((answer) => ({ ...answer, plaintext: other, plaintextCrc32c: { value: String(crc32c(other)) } }), {
    only: { operation: 'Decrypt' },
  })
  clock.advance(301_000)
  expect(await failure(open(envelope))).toMatchObject({ kind: 'corrupt' })
  expect(changed).toEqual(['clinic-7'])
  await fieldseal.close()
})
