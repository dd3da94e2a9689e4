import { randomBytes } from 'node:crypto'
import { expect, it } from 'vitest'
import { failure, useAws } from './support/aws.ts'
import { patientsUnder } from './support/patients.ts'

// The promise of docs/kms, kept through the vendor's client: what the customer does to the key, the application feels
// within `revocationBoundMs`. Time is a fake clock; the calls are real.

const aws = useAws()
const unwraps = () => aws.emulator.calls.filter(({ operation }) => operation === 'Decrypt').length

it('reads nothing later than the bound after the customer disabled the key, and everything again once it is enabled', async () => {
  const { arn, cmk } = aws.cmk()
  const { clock, start } = patientsUnder(cmk)
  const { fieldseal, seal, open } = start()
  const envelope = await seal('ada@example.org')
  expect(await open(envelope)).toBe('ada@example.org')
  aws.emulator.disable(arn)
  clock.advance(30_000)
  expect(await open(envelope)).toBe('ada@example.org')
  clock.advance(fieldseal.revocationBoundMs('clinic-7').reachable)
  expect(await failure(open(envelope))).toMatchObject({ kind: 'denied', code: 'ERR_KMS_KEY_DISABLED' })
  expect(await failure(seal('eve@example.org'))).toMatchObject({ kind: 'denied' })
  aws.emulator.enable(arn)
  clock.advance(60_000)
  expect(await open(envelope)).toBe('ada@example.org')
  await fieldseal.close()
})

it('reads on while nobody can reach the KMS, writes not, and stops at the hard limit', async () => {
  const { arn, cmk } = aws.cmk()
  const { clock, start } = patientsUnder(cmk)
  const { fieldseal, seal, open } = start()
  const envelope = await seal('ada@example.org')
  aws.emulator.fail('KMSInternalException', { status: 500, times: 100 })
  clock.advance(899_000)
  expect(await open(envelope)).toBe('ada@example.org')
  expect(await failure(seal('eve@example.org'))).toMatchObject({ kind: 'unavailable' })
  clock.advance(2_000)
  expect(await failure(open(envelope))).toMatchObject({ kind: 'unavailable' })
  aws.emulator.restore()
  // The breaker lets a trial through after some seconds.
  clock.advance(60_000)
  expect(await open(envelope)).toBe('ada@example.org')
  expect(aws.emulator.calls.every(({ key }) => key === arn || key === '')).toBe(true)
  await fieldseal.close()
})

it('stays closed when the network fails after a denial', async () => {
  const { cmk } = aws.cmk()
  const { clock, start } = patientsUnder(cmk)
  const { fieldseal, seal, open } = start()
  const envelope = await seal('ada@example.org')
  aws.emulator.deny()
  clock.advance(301_000)
  expect(await failure(open(envelope))).toMatchObject({ kind: 'denied' })
  aws.emulator.restore()
  aws.emulator.fail('KMSInternalException', { status: 500, times: 100 })
  clock.advance(60_000)
  expect(['denied', 'unavailable']).toContain((await failure(open(envelope))).kind)
  await fieldseal.close()
})

it('asks the KMS once for three hundred readers of a cold process', async () => {
  const { cmk } = aws.cmk()
  const { start } = patientsUnder(cmk)
  const envelope = await start().seal('ada@example.org')
  aws.emulator.forgetCalls()
  const { fieldseal, open } = start()
  const values = await Promise.all(Array.from({ length: 300 }, () => open(envelope)))
  expect(new Set(values)).toEqual(new Set(['ada@example.org']))
  expect(unwraps()).toBe(1)
  await fieldseal.close()
})

it('notices when the KMS answers one blob with two keys', async () => {
  const { cmk } = aws.cmk()
  const { clock, start } = patientsUnder(cmk)
  const { fieldseal, seal, open } = start()
  const envelope = await seal('ada@example.org')
  await open(envelope)
  const changed: string[] = []
  fieldseal.on('key.changed', ({ tenant }) => void changed.push(tenant))
  const other = randomBytes(32)
  aws.emulator.alter((answer) => ({ ...answer, Plaintext: other.toString('base64') }), {
    only: { operation: 'Decrypt' },
  })
  clock.advance(301_000)
  expect(await failure(open(envelope))).toMatchObject({ kind: 'corrupt' })
  expect(changed).toEqual(['clinic-7'])
  await fieldseal.close()
})
