import { createFieldseal } from '@fieldseal/core'
import { attach } from '@fieldseal/core/adapter'
import type { Cmk } from '@fieldseal/core/kms'
import { fakeClock, memoryKeyStore } from '@fieldseal/testkit'

const ID = 'b5a1f6de-3f7c-4ac3-9a2e-4f0a8b0b5f01'

/** One application under one CMK, with a clock that passes when told: seals and opens an e-mail address. */
export function patientsUnder(cmk: Cmk) {
  const clock = fakeClock()
  const keyStore = memoryKeyStore()
  const start = () => {
    const fieldseal = createFieldseal({ app: 'clinic', tenancy: 'multi', keys: { cmks: [cmk] }, keyStore, clock })
    const host = attach(fieldseal, { name: 'test', ormVersion: '0' })
    const map = host.defineModel({
      id: 'patients',
      options: { tenantBy: 'clinic_id' },
      fields: [{ path: 'email', type: 'string', options: {} }],
      rowKey: [{ path: 'id', kind: 'uuid' }],
    })
    const { field } = map.at('email')
    if (field === undefined) throw new Error('no field')
    const asClinic = <R>(run: () => R) => fieldseal.runAs({ tenant: 'clinic-7' }, run)
    const rowOf = <V>(value: V) => ({
      map,
      facts: map.facts({ clinic_id: 'clinic-7', id: ID }, host.capture()),
      cells: [{ field, value }],
    })
    return {
      fieldseal,
      async seal(value: string): Promise<Uint8Array> {
        const [sealed] = await asClinic(() => host.cipher.seal([rowOf<unknown>(value)], host.capture()))
        const envelope = sealed?.envelopes[0]
        if (envelope === undefined || envelope === null) throw new Error('nothing was sealed')
        return envelope
      },
      async open(envelope: Uint8Array): Promise<unknown> {
        const [opened] = await asClinic(() => host.cipher.open([rowOf<Uint8Array | string>(envelope)], host.capture()))
        return opened?.values[0]
      },
    }
  }
  return { clock, start }
}
