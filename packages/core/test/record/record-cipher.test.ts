import { expect, it } from 'vitest'
import { envelopeToText } from '../../src/envelope/text-form.ts'
import { clinic, ID, OTHER_ID } from '../support/clinic.ts'

it('opens what it sealed, in binary and in text form', async () => {
  const { seal, open } = clinic()
  const born = new Date('1815-12-10T00:00:00Z')
  const { envelopes } = await seal('a', { email: 'Ada@Example.org', ssn: '078-05-1120', born })
  const [email, ssn, bornEnvelope] = envelopes
  const opened = await open('a', { email, ssn: envelopeToText(ssn as never), born: bornEnvelope })
  expect(opened.values).toEqual(['Ada@Example.org', '078-05-1120', born])
  expect(opened.outdated).toEqual([])
})

it('gives the same value different ciphertext and equal tokens', async () => {
  const { seal, map } = clinic()
  const one = await seal('a', { email: 'Ada@Example.org' })
  const two = await seal('a', { email: ' ada@example.ORG' })
  const [index] = map.indexes
  expect(one.envelopes[0]).not.toEqual(two.envelopes[0])
  expect(one.tokens.get(index as never)).toEqual(two.tokens.get(index as never))
  expect(one.tokens.get(index as never)).toEqual([[expect.any(Uint8Array)]])
})

it('refuses a value moved to another row, column or tenant', async () => {
  const { seal, open } = clinic()
  const { envelopes } = await seal('a', { ssn: '078-05-1120' })
  await seal('b', { ssn: 'x' })
  await expect(open('a', { ssn: envelopes[0] }, OTHER_ID)).rejects.toMatchObject({
    code: 'ERR_DECRYPT_FAILED',
    kind: 'corrupt',
  })
  await expect(open('a', { email: envelopes[0] })).rejects.toMatchObject({ code: 'ERR_DECRYPT_FAILED' })
  await expect(open('b', { ssn: envelopes[0] })).rejects.toMatchObject({ code: 'ERR_KEY_NOT_FOUND', kind: 'corrupt' })
})

it('calls the KMS once for a KEK however many rows are read', async () => {
  const { seal, open, fieldseal, cmk } = clinic()
  const { envelopes } = await seal('a', { ssn: '078-05-1120' })
  fieldseal.purge('a')
  cmk.calls.length = 0
  await Promise.all(Array.from({ length: 3_000 }, () => open('a', { ssn: envelopes[0] }, ID)))
  expect(cmk.calls.map(({ operation }) => operation)).toEqual(['unwrap'])
})

it('opens nothing under a KEK that was made for an index', async () => {
  const { seal, open, keyStore } = clinic()
  const { envelopes } = await seal('a', { email: 'ada@example.org' })
  const records = [...keyStore.rows.values()].map(
    (text) => JSON.parse(text) as { kind: string; purpose?: string; id: string },
  )
  const index = records.find(({ kind, purpose }) => kind === 'kek' && purpose === 'index')
  const forged = Buffer.from(envelopes[0] ?? [])
  forged.set(Buffer.from(index?.id ?? '', 'hex'), 3)
  await expect(open('a', { email: forged })).rejects.toMatchObject({ code: 'ERR_KEY_NOT_FOUND' })
})
