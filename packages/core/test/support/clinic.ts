import { createFieldseal } from '../../src/create-fieldseal.ts'
import { attach } from '../../src/attach.ts'
import type { FieldsealOptions } from '../../src/fieldseal.ts'
import type { EventName, FieldsealEvents } from '../../src/observe/events.ts'
import type { ModelDeclaration, Row } from '../../src/record/ports.ts'
import { type ArrayKeyStore, arrayKeyStore } from './array-key-store.ts'
import { type FakeCmk, fakeCmk } from './fake-cmk.ts'
import { type ManualClock, manualClock } from './manual-clock.ts'

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

/** Notes, each under the key of the patient it is about. */
export const NOTES: ModelDeclaration = {
  id: 'notes',
  options: { tenantBy: 'clinic_id', keyspace: { per: 'patient', of: 'patient' } },
  fields: [{ path: 'text', type: 'string', options: {} }],
  rowKey: [{ path: 'id', kind: 'uuid' }],
}

export const ID = 'b5a1f6de-3f7c-4ac3-9a2e-4f0a8b0b5f01'
export const OTHER_ID = 'b5a1f6de-3f7c-4ac3-9a2e-4f0a8b0b5f02'

interface Fakes {
  readonly keyStore: ArrayKeyStore
  readonly cmk: FakeCmk
  readonly clock: ManualClock
}
type Options = Partial<Omit<FieldsealOptions<'multi'>, keyof Fakes>> & Partial<Fakes>

export interface HeardEvent {
  readonly name: EventName
  readonly event: FieldsealEvents[EventName]
}

/** Names of all events, so that a test can listen to each. */
export const EVENT_NAMES: readonly EventName[] = [
  'kms.call',
  'key.revoked',
  'key.restored',
  'key.stale-served',
  'key.changed',
  'kek.created',
  'direct-key.created',
  'kek.rotated',
  'kek.due',
  'kek.versions',
  'background.failed',
  'rewrap.done',
  'rewrap.dropped',
  'system.entered',
  'breaker.opened',
  'breaker.closed',
  'activation.waiting',
  'health.changed',
  'audit.failed',
]

/** A Fieldseal over fakes, with one model. Everything a test may turn is in the result. */
export function clinic(options: Options = {}, model: ModelDeclaration = PATIENTS) {
  const { clock = manualClock(), keyStore = arrayKeyStore(), cmk = fakeCmk('cmk-1'), ...others } = options
  const fieldseal = createFieldseal({
    app: 'clinic',
    tenancy: 'multi',
    keyStore,
    keys: { cmks: [cmk] },
    clock,
    ...others,
  })
  const heard: HeardEvent[] = []
  for (const name of EVENT_NAMES) fieldseal.on(name, (event) => heard.push({ name, event }))
  const host = attach(fieldseal, { name: 'test', ormVersion: '0', compoundIndexes: true })
  const map = host.defineModel(model)
  const as = <R>(tenant: string, fn: () => R) => fieldseal.runAs({ tenant }, fn)

  /** Seals the fields named in `values` as the row `id` of `tenant`. */
  const seal = (tenant: string, values: Record<string, unknown>, id: string | undefined = ID, via?: unknown) =>
    as(tenant, async () => {
      const context = host.capture()
      const [sealed] = await host.cipher.seal([rowOf(tenant, values, id)], context, via)
      if (sealed === undefined) throw new Error('nothing was sealed')
      return sealed
    })
  const open = (tenant: string, values: Record<string, unknown>, id: string | undefined = ID, via?: unknown) =>
    as(tenant, async () => {
      const [opened] = await host.cipher.open([rowOf(tenant, values, id)], host.capture(), via)
      if (opened === undefined) throw new Error('nothing was opened')
      return opened
    })
  const rowOf = (
    tenant: string,
    values: Record<string, unknown>,
    id: string | undefined,
    columns: Record<string, unknown> = {},
  ): Row<unknown> => ({
    map,
    facts: map.facts(
      { clinic_id: tenant, ...(id === undefined ? {} : { id }), ...columns },
      as(tenant, () => host.capture()),
    ),
    cells: Object.entries(values).map(([path, value]) => {
      const { field } = map.at(path)
      if (field === undefined) throw new Error(`no field ${path}`)
      return { field, value }
    }),
  })
  const events = <N extends EventName>(name: N) =>
    heard.filter((one) => one.name === name).map(({ event }) => event as FieldsealEvents[N]) // filtered by name

  /** Lets work in the background finish: refreshes that a use started. */
  const settled = () => new Promise<void>((resolve) => setImmediate(resolve))

  return { fieldseal, host, map, clock, keyStore, cmk, as, seal, open, rowOf, heard, events, settled }
}

export type Clinic = ReturnType<typeof clinic>
