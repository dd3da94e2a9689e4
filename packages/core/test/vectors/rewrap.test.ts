import { expect, it } from 'vitest'
import { createRandomSource } from '../../src/cipher/random.ts'
import { recordIdFrom } from '../../src/context/record-id.ts'
import { isFieldsealError } from '../../src/errors/fieldseal-error.ts'
import type { Keyrings } from '../../src/keyring/keyrings.ts'
import { createLiveKek, type LiveKek } from '../../src/keyring/live-kek.ts'
import { SecretKey } from '../../src/keys/secret-key.ts'
import { rewrapRow } from '../../src/record/rewrap-row.ts'
import { manualClock } from '../support/manual-clock.ts'
import type { EnvelopeVector } from './envelope-vectors.ts'
import { kekOf } from './kek-record-vectors.ts'
import { openStored, rowOf } from './reader.ts'
import { hex, readVectors, unhex } from './vector-file.ts'

const random = createRandomSource()
const [bound, unbound] = readVectors<{ readonly tests: readonly EnvelopeVector[] }>('envelopes-valid.json')
const vectors = [...(bound?.tests ?? []), ...(unbound?.tests ?? [])]
const newer = kekOf('newer')

function live(id: string, key: Uint8Array): LiveKek {
  const { record } = newer
  const confirmation = {
    record: { ...record, id: recordIdFrom(unhex(id)) },
    legsCheckedAt: new Map(),
    policy: {} as never,
  }
  return createLiveKek(new SecretKey(Uint8Array.from(key)), confirmation, { clock: manualClock(), random })
}

/** The KEK of the vector and a newer one, as far as a rewrap asks for them. */
function rewrap(vector: EnvelopeVector, cell: string | Uint8Array = unhex(vector.envelope)) {
  const keks = new Map([[vector.keyId, live(vector.keyId, unhex(vector.kek ?? ''))]])
  const keyrings = {
    toWrap: () => Promise.resolve(live(newer.record.id, newer.kek)),
    toUnwrap: () => Promise.resolve(keks),
    snapshot: () => Promise.resolve({ records: new Map() }),
  } as unknown as Keyrings
  const noDirect = { directKeys: {} as never, directDeks: {} as never }
  return rewrapRow(rowOf(vector, cell), { app: 'clinic', keyrings, random, ...noDirect })
}

it('replaces bytes 3–15 and 18–83 of every vector and nothing else, and the new envelope opens under the new KEK', async () => {
  expect(vectors.length).toBeGreaterThan(90)
  for (const vector of vectors) {
    const [cell] = await rewrap(vector)
    const before = unhex(vector.envelope)
    const after = Buffer.from(cell?.after ?? [])
    expect(hex(after.subarray(0, 3)), vector.comment).toBe(hex(before.subarray(0, 3)))
    expect(hex(after.subarray(3, 15))).toBe(newer.record.id)
    expect(hex(after.subarray(15, 18))).toBe(hex(before.subarray(15, 18)))
    expect(after.subarray(18, 84).equals(before.subarray(18, 84))).toBe(false)
    expect(hex(after.subarray(84)), vector.comment).toBe(hex(before.subarray(84)))
    const reader = { ...vector, keyId: newer.record.id as string, kek: hex(newer.kek) }
    expect(hex(openStored(reader, after).plaintext)).toBe(vector.plaintext)
  }
})

it('refuses to rewrap a vector for another tenant, keyspace, model, field, map key or row', async () => {
  const places = [
    { tenant: 'clinic-8' },
    { keyspace: 'class:else' },
    { model: 'else' },
    { field: 'else' },
    { mapKeys: ['else'] },
  ]
  for (const vector of vectors.slice(0, 4)) {
    for (const place of [...places, { rowId: `${vector.rowId?.slice(0, -2) ?? ''}ff` }]) {
      const error: unknown = await rewrap({ ...vector, ...place }).catch((refused: unknown) => refused)
      expect(isFieldsealError(error) && error.code, `${vector.comment} ${Object.keys(place).join()}`).toBe(
        'ERR_DECRYPT_FAILED',
      )
    }
  }
})
