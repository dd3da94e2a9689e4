import { createFieldseal, type Fieldseal } from '@fieldseal/core'
import { attach, type AdapterHost, type RecordMap } from '@fieldseal/core/adapter'
import { fakeKms, memoryKeyStore } from '@fieldseal/testkit'

/** A Fieldseal over fakes with a model of so many text fields: no database, no KMS latency. */
export function coreBench(fields: number): {
  readonly fieldseal: Fieldseal<'single'>
  readonly host: AdapterHost
  readonly map: RecordMap
} {
  const fieldseal = benchFieldseal(memoryKeyStore())
  const host = attach(fieldseal, { name: 'bench', ormVersion: '0' })
  const names = Array.from({ length: fields }, (_unused, i) => `field_${i}`)
  const map = host.defineModel({
    id: 'rows',
    options: {},
    fields: names.map((path) => ({ path, type: 'string', options: {} })),
    rowKey: [{ path: 'id', kind: 'uuid' }],
  })
  return { fieldseal, host, map }
}

export function benchFieldseal(keyStore: Parameters<typeof createFieldseal>[0]['keyStore']): Fieldseal<'single'> {
  return createFieldseal({ app: 'bench', tenancy: 'single', keyStore, keys: { cmks: [fakeKms().cmk('bench')] } })
}
