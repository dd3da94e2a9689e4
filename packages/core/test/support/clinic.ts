import { createFieldseal } from '../../src/create-fieldseal.ts'
import { attach } from '../../src/attach.ts'
import type { FieldsealOptions } from '../../src/fieldseal.ts'
import type { ModelDeclaration, Row } from '../../src/record/ports.ts'
import { arrayKeyStore } from './array-key-store.ts'
import { fakeCmk } from './fake-cmk.ts'
import { manualClock } from './manual-clock.ts'

/** Patients of several clinics, with a binding to a uuid key and an index on the e-mail address. */
export const PATIENTS: ModelDeclaration = {
  id: 'patients',
  options: { tenantBy: 'clinic_id' },
  fields: [
    { path: 'email', type: 'string', options: { blindIndex: { normalize: 'email', unique: true } } },
    { path: 'ssn', type: 'string', options: {} },
    { path: 'born', type: 'date', options: {} },
  ],
  rowKey: [{ path: 'id', kind: 'uuid' }],
}

export const ID = 'b5a1f6de-3f7c-4ac3-9a2e-4f0a8b0b5f01'
export const OTHER_ID = 'b5a1f6de-3f7c-4ac3-9a2e-4f0a8b0b5f02'

/** A Fieldseal over fakes, with one model. Everything a test may turn is in the result. */
export function clinic(options: Partial<FieldsealOptions<'multi'>> = {}, model: ModelDeclaration = PATIENTS) {
  const clock = manualClock()
  const keyStore = arrayKeyStore()
  const cmk = fakeCmk('cmk-1')
  const fieldseal = createFieldseal({
    app: 'clinic',
    tenancy: 'multi',
    keyStore,
    keys: { cmks: [cmk] },
    clock,
    ...options,
  })
  const host = attach(fieldseal, { name: 'test', ormVersion: '0' })
  const map = host.defineModel(model)
  const as = <R>(tenant: string, fn: () => R) => fieldseal.runAs({ tenant }, fn)
  /** Seals the fields named in `values` as the row `id` of `tenant`. */
  const seal = (tenant: string, values: Record<string, unknown>, id: string | undefined = ID) =>
    as(tenant, async () => {
      const context = host.capture()
      const [sealed] = await host.cipher.seal([rowOf(tenant, values, id)], context)
      if (sealed === undefined) throw new Error('nothing was sealed')
      return sealed
    })
  const open = (tenant: string, values: Record<string, unknown>, id: string | undefined = ID) =>
    as(tenant, async () => {
      const [opened] = await host.cipher.open([rowOf(tenant, values, id)], host.capture())
      if (opened === undefined) throw new Error('nothing was opened')
      return opened
    })
  const rowOf = (tenant: string, values: Record<string, unknown>, id: string | undefined): Row<unknown> => ({
    map,
    facts: map.facts(
      { clinic_id: tenant, ...(id === undefined ? {} : { id }) },
      as(tenant, () => host.capture()),
    ),
    cells: Object.entries(values).map(([path, value]) => {
      const { field } = map.at(path)
      if (field === undefined) throw new Error(`no field ${path}`)
      return { field, value }
    }),
  })
  return { fieldseal, host, map, clock, keyStore, cmk, as, seal, open, rowOf }
}
