import type { FieldsealEvents } from '../../src/observe/events.ts'
import type { ModelOptions } from '../../src/record/options.ts'
import type { ModelDeclaration, Row } from '../../src/record/ports.ts'
import { clinic, PATIENTS } from './clinic.ts'
import { fakeCmk, type FakeCmk } from './fake-cmk.ts'

/** Patients whose DEKs the tenant's CMK wraps itself. */
export function directPatients(options: Partial<ModelOptions> = {}): ModelDeclaration {
  return { ...PATIENTS, options: { ...PATIENTS.options, mode: 'direct', ...options } }
}

type Options = Parameters<typeof clinic>[0]

/** A clinic of mode `direct`, and what its CMK was asked. */
export function directClinic(options: Options = {}, model: ModelDeclaration = directPatients()) {
  const cmk = options.cmk ?? fakeCmk('one', { keyVersion: '1' })
  const world = clinic({ ...options, cmk }, model)
  /** Opens one `ssn` per row id. */
  const openRows = (cells: readonly (readonly [string, unknown])[], onUnreadable: 'throw' | 'mark' = 'throw') =>
    world.fieldseal.runAs({ tenant: 'a', onUnreadable }, () =>
      world.host.cipher.open(
        cells.map(([id, ssn]): Row<unknown> => world.rowOf('a', { ssn }, id)),
        world.host.capture(),
      ),
    )
  const sealRows = (ids: readonly string[]) =>
    world.as('a', () =>
      world.host.cipher.seal(
        ids.map((id) => world.rowOf('a', { ssn: `of ${id}` }, id)),
        world.host.capture(),
      ),
    )
  const revoked = (): readonly FieldsealEvents['key.revoked'][] => world.events('key.revoked')
  return { ...world, cmk, openRows, sealRows, revoked }
}

export type DirectClinic = ReturnType<typeof directClinic>

/** The calls of purpose `direct`. */
export const directCalls = (cmk: FakeCmk) =>
  cmk.calls.filter(({ context }) => context['purpose'] === 'direct').map(({ operation }) => operation)

/** The same tenant, records and rows under another configuration or model, as after a deploy. */
export function redeployed({ keyStore, clock }: DirectClinic, options: Options, model = directPatients()) {
  return directClinic({ keyStore, clock, ...options }, model)
}

/** Ids of rows: `n` uuids. */
export const rowIds = (n: number) =>
  Array.from({ length: n }, (_, i) => `b5a1f6de-3f7c-4ac3-9a2e-${String(i).padStart(12, '0')}`)
