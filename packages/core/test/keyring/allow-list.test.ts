import { expect, it } from 'vitest'
import { moveWraps, rotateKek } from '../../src/attach.ts'
import { recordToJson } from '../../src/keys/record-json.ts'
import { rewrapRow } from '../../src/record/rewrap-row.ts'
import { internalsOf } from '../../src/internals.ts'
import { arrayKeyStore } from '../support/array-key-store.ts'
import { clinic, ID } from '../support/clinic.ts'
import { directClinic, directPatients } from '../support/direct.ts'
import { fakeCmk, type FakeCmk, type FakeCmkOptions } from '../support/fake-cmk.ts'
import { directRecord } from '../support/records.ts'

const ABLE: FakeCmkOptions = { generates: true, rewraps: true, probes: true, describes: true }

/**
 * A tenant that was served by `foreign`, whose records still name it, and is configured with `own` alone. An answer of
 * `foreign` would be one from a key that the tenant's configuration does not name.
 */
async function world(mode: 'kek' | 'direct') {
  const [foreign, own] = [fakeCmk('foreign', ABLE), fakeCmk('own', ABLE)]
  const model = directPatients({ mode })
  const keyStore = arrayKeyStore()
  const before = directClinic({ keyStore, cmk: foreign }, model)
  const { envelopes } = await before.seal('a', { ssn: 'x' })
  foreign.calls.length = 0
  const after = directClinic({ keyStore, cmk: own }, model)
  return { ...after, foreign, own, envelopes, row: after.rowOf('a', { ssn: envelopes[0] }, ID) }
}
const REFUSED = { code: 'ERR_KMS_CONFIG', kind: 'misuse' }
const nobodyAsked = (...cmks: FakeCmk[]) => expect(cmks.flatMap((cmk) => cmk.operations())).toEqual([])

it('refuses to unwrap what a CMK outside the configuration has wrapped, before any call', async () => {
  for (const mode of ['kek', 'direct'] as const) {
    const { open, envelopes, own, foreign } = await world(mode)
    await expect(open('a', { ssn: envelopes[0] })).rejects.toMatchObject(REFUSED)
    nobodyAsked(own, foreign)
  }
})

it('refuses to wrap under a key that only such a CMK opens, before any call', async () => {
  const { seal, own, foreign } = await world('kek')
  await expect(seal('a', { ssn: 'y' })).rejects.toMatchObject(REFUSED)
  nobodyAsked(own, foreign)
})

it('wraps and generates by configured CMKs only', async () => {
  for (const generates of [false, true]) {
    const [former, own] = [fakeCmk('former', ABLE), fakeCmk('own', { generates })]
    for (const mode of ['kek', 'direct'] as const) {
      const { seal, fieldseal } = directClinic(
        { cmk: own, keys: { cmks: [own], formerCmks: [former] } },
        directPatients({ mode }),
      )
      await seal('a', { ssn: 'x', email: 'ada@example.org' })
      await rotateKek(fieldseal, { tenant: 'a' })
      await fieldseal.activate('a')
    }
    nobodyAsked(former)
    expect(own.operations()).toContain(generates ? 'generate' : 'wrap')
  }
})

it('refuses to rewrap and to move what a CMK outside the configuration has wrapped, before any call', async () => {
  for (const mode of ['kek', 'direct'] as const) {
    const { fieldseal, row, own, foreign } = await world(mode)
    const { app, keyrings, settings } = internalsOf(fieldseal)
    await expect(rewrapRow(row, { ...settings, app, keyrings })).rejects.toMatchObject(REFUSED)
    own.calls.length = 0 // mode direct makes its own record first, which needs no key
    await expect(moveWraps(fieldseal, { tenant: 'a' })).rejects.toMatchObject(REFUSED)
    nobodyAsked(own, foreign)
  }
})

it('refuses a direct record that somebody pointed at another CMK', async () => {
  const [own, other] = [fakeCmk('own'), fakeCmk('other')]
  const { seal, open, keyStore, fieldseal } = directClinic({ cmk: own, keys: { cmks: [own, other] } })
  const { envelopes, kekIds } = await seal('a', { ssn: 'x' })
  keyStore.tamper(kekIds[0] as never, { uri: 'arn:of-another-account' })
  fieldseal.purge('a')
  own.calls.length = 0
  await expect(open('a', { ssn: envelopes[0] })).rejects.toMatchObject(REFUSED)
  nobodyAsked(own, other)
  keyStore.tamper(kekIds[0] as never, { uri: 'other' }) // configured, but never wrapped it
  fieldseal.purge('a')
  await expect(open('a', { ssn: envelopes[0] })).rejects.toMatchObject({ kind: 'corrupt' })
})

it('asks no CMK on the word of a record: one of another provider with the same uri is not meant', async () => {
  const own = fakeCmk('own')
  const { keyStore, seal } = directClinic({ cmk: own })
  const { envelopes } = await seal('a', { ssn: 'x' })
  const { denial: _denial, ...record } = directRecord({ provider: 'aws-kms', uri: 'own' })
  keyStore.rows.set(record.id, recordToJson(record))
  const renamed = Buffer.from(envelopes[0] ?? [])
  Buffer.from(record.id, 'hex').copy(renamed, 3)
  own.calls.length = 0
  const again = directClinic({ cmk: own, keyStore })
  await expect(again.open('a', { ssn: renamed })).rejects.toMatchObject(REFUSED)
  nobodyAsked(own)
})

it('falls back to no key outside the tenant’s own when all of them are silent or deny', async () => {
  const [ofA, ofB] = [fakeCmk('of-a', { credentialScope: 'a' }), fakeCmk('of-b', { credentialScope: 'b' })]
  for (const mode of ['kek', 'direct'] as const)
    for (const failure of ['ERR_KMS_NETWORK', 'ERR_KMS_KEY_DISABLED'] as const) {
      ofA.failure = undefined
      const keys = async (tenant: string) => ({ cmks: [tenant === 'a' ? ofA : ofB] })
      const { seal, open, fieldseal } = clinic({ keys, cmk: ofA }, directPatients({ mode }))
      const { envelopes } = await seal('a', { ssn: 'x' })
      await seal('b', { ssn: 'y' })
      fieldseal.purge('a')
      ofA.failure = failure
      ofB.calls.length = 0
      await expect(open('a', { ssn: envelopes[0] })).rejects.toMatchObject({ code: failure })
      await expect(seal('a', { ssn: 'z' })).rejects.toMatchObject({ code: failure })
      nobodyAsked(ofB)
    }
})
