import { createFieldseal, type Fieldseal } from '@fieldseal/core'
import { attach, type AdapterHost, type RecordMap } from '@fieldseal/core/adapter'
import { fakeKms, memoryKeyStore } from '@fieldseal/testkit'

/** A Fieldseal over fakes, as the core cases need it: no database, no KMS latency. */
export function coreBench(): {
  readonly fieldseal: Fieldseal<'single'>
  readonly host: AdapterHost
  readonly map: RecordMap
} {
  const fieldseal = createFieldseal({
    app: 'bench',
    tenancy: 'single',
    keyStore: memoryKeyStore(),
    keys: { cmks: [fakeKms().cmk('bench')] },
  })
  const host = attach(fieldseal, { name: 'bench', ormVersion: '0' })
  const map = host.defineModel({
    id: 'rows',
    options: {},
    fields: ['a', 'b', 'c', 'd', 'e'].map((path) => ({ path, type: 'string', options: {} })),
    rowKey: [{ path: 'id', kind: 'uuid' }],
  })
  return { fieldseal, host, map }
}
