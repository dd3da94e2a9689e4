import { expect, it } from 'vitest'
import { envelopeToText } from '../../src/envelope/text-form.ts'
import { clinic } from '../support/clinic.ts'

it('lets envelopes and null pass, and nothing else', async () => {
  const { seal, host, map } = clinic()
  const { field } = map.at('ssn')
  const { envelopes } = await seal('a', { ssn: '078-05-1120' })
  const [envelope] = envelopes
  if (field === undefined || envelope === undefined || envelope === null) throw new Error('nothing sealed')
  for (const fine of [null, undefined, envelope, Buffer.from(envelope), envelopeToText(envelope)])
    host.guard.assertSealed(field, fine)
  const text = envelopeToText(envelope)
  const leaks = [
    '078-05-1120',
    '',
    0,
    false,
    {},
    [],
    new Date(),
    Buffer.from('078'),
    'fs.',
    `${text}=`,
    ` ${text}`,
    text.slice(0, 60),
    [envelope],
    { envelope },
  ]
  for (const leak of leaks) {
    expect(() => host.guard.assertSealed(field, leak)).toThrow(
      expect.objectContaining({
        code: 'ERR_PLAINTEXT_BLOCKED',
        kind: 'refused',
        details: { model: 'patients', field: 'ssn' },
      }),
    )
    expect(() => host.guard.assertSealed(field, leak)).toThrow(expect.not.stringContaining('078'))
  }
})

it('redacts every encrypted field in a copy, and leaves the original alone', () => {
  const { host, map } = clinic()
  const row = { id: 1, ssn: '078-05-1120', email: null }
  expect(host.guard.redact(map, row)).toEqual({ id: 1, ssn: '[redacted]', email: '[redacted]' })
  expect(row.ssn).toBe('078-05-1120')
})
