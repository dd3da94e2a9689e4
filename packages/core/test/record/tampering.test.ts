import { beforeAll, expect, it } from 'vitest'
import { KEK_OVERHEAD } from '../../src/envelope/layout.ts'
import { isFieldsealError } from '../../src/errors/fieldseal-error.ts'
import type { ModelDeclaration } from '../../src/record/ports.ts'
import { type Clinic, clinic, ID, OTHER_ID, PATIENTS } from '../support/clinic.ts'

const VALUE = 'ok'
const UNBOUND: ModelDeclaration = { ...PATIENTS, options: { ...PATIENTS.options, bindRow: 'never' } }

for (const [binding, model] of [
  ['bound', PATIENTS],
  ['unbound', UNBOUND],
] as const) {
  let world: Clinic
  let envelope: Buffer
  beforeAll(async () => {
    world = clinic({}, model)
    envelope = Buffer.from((await world.seal('a', { ssn: VALUE })).envelopes[0] ?? [])
    expect(envelope).toHaveLength(KEK_OVERHEAD + VALUE.length)
    expect(envelope[15]).toBe(binding === 'bound' ? 1 : 0)
  })

  /** Opens bytes as the cell they were read from; anything but an error of kind corrupt fails the test. */
  async function refused(bytes: Buffer, what: string): Promise<void> {
    let outcome: unknown
    try {
      outcome = (await world.open('a', { ssn: bytes })).values
    } catch (error) {
      expect(isFieldsealError(error), what).toBe(true)
      if (isFieldsealError(error)) {
        expect(error.kind, `${what}: ${error.code}`).toBe('corrupt')
        expect(JSON.stringify(error) + String(error)).not.toContain(`"${VALUE}"`)
      }
      return
    }
    expect.fail(`${what} gave ${JSON.stringify(outcome)}`)
  }

  it(`refuses every other value of every byte at the edges, and every flipped bit of every byte (${binding})`, async () => {
    for (let at = 0; at < envelope.length; at++) {
      const header = at < 18
      const changes = header ? Array.from({ length: 255 }, (_, i) => i + 1) : [1, 2, 4, 8, 16, 32, 64, 128, 0xff]
      for (const change of changes) {
        const bytes = Buffer.from(envelope)
        bytes[at] = (bytes[at] ?? 0) ^ change
        await refused(bytes, `byte ${at} ^ ${change}`)
      }
    }
  })

  it(`refuses every cut and every extension (${binding})`, async () => {
    for (let length = 0; length < envelope.length; length++) {
      await refused(envelope.subarray(0, length), `cut to ${length}`)
      await refused(envelope.subarray(envelope.length - length), `last ${length}`)
    }
    for (const extra of ['00', 'ff', '0000', envelope.toString('hex')]) {
      await refused(Buffer.concat([envelope, Buffer.from(extra, 'hex')]), `extended by ${extra.length / 2}`)
      await refused(Buffer.concat([Buffer.from(extra, 'hex'), envelope]), `preceded by ${extra.length / 2}`)
    }
    for (let at = 0; at < envelope.length; at++) {
      await refused(Buffer.concat([envelope.subarray(0, at), envelope.subarray(at + 1)]), `without byte ${at}`)
      await refused(Buffer.concat([envelope.subarray(0, at), Buffer.of(0), envelope.subarray(at)]), `one more at ${at}`)
    }
  })
}

it('refuses parts of two genuine envelopes put together', async () => {
  const { seal, open } = clinic()
  const one = Buffer.from((await seal('a', { ssn: 'one' })).envelopes[0] ?? [])
  const two = Buffer.from((await seal('a', { ssn: 'two' })).envelopes[0] ?? [])
  for (const at of [3, 15, 18, 24, 36, 68, 84, 96, 99]) {
    const mixed = Buffer.concat([one.subarray(0, at), two.subarray(at)])
    if (mixed.equals(one) || mixed.equals(two)) continue // the same KEK id and salt
    await expect(open('a', { ssn: mixed }), `joined at ${at}`).rejects.toMatchObject({ code: 'ERR_DECRYPT_FAILED' })
  }
})

it('says the same of a wrong key, a wrong place and altered data', async () => {
  const { seal, open } = clinic()
  const envelope = Buffer.from((await seal('a', { ssn: 'value' })).envelopes[0] ?? [])
  const messages = new Set<string>()
  for (const at of [20, 30, 40, 70, 90, 97, 100]) {
    const bytes = Buffer.from(envelope)
    bytes[at] = (bytes[at] ?? 0) ^ 1
    await open('a', { ssn: bytes }).catch((error: unknown) => messages.add(String(error)))
  }
  await open('a', { ssn: envelope }, OTHER_ID).catch((error: unknown) => messages.add(String(error)))
  expect([...messages]).toEqual(['FieldsealError: ERR_DECRYPT_FAILED patients.ssn: authentication failed'])
})

it('calls a database text that is no envelope plaintext, never opens it', async () => {
  const { open } = clinic()
  for (const stored of ['', 'ada@example.org', 'fs', Buffer.from('plain'), Buffer.alloc(0), 7, {}, new Date()])
    await expect(open('a', { ssn: stored })).rejects.toMatchObject({ code: 'ERR_PLAINTEXT_FOUND', kind: 'corrupt' })
})

it('encrypts user text that looks like an envelope like any other', async () => {
  const { seal, open } = clinic()
  const first = await seal('a', { ssn: 'secret' })
  const text = `fs.${Buffer.from(first.envelopes[0] ?? []).toString('base64url')}`
  const second = await seal('a', { ssn: text })
  expect(second.envelopes[0]).toHaveLength(KEK_OVERHEAD + text.length)
  expect((await open('a', { ssn: second.envelopes[0] }, ID)).values).toEqual([text])
})
