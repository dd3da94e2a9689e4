import { createFieldseal, type FieldsealOptions } from '@fieldseal/core'
import type { KeyStore, ModelDeclaration, RecordSource } from '@fieldseal/core/adapter'
import { fakeClock, fakeKms, memoryKeyStore, memoryRecordSource } from '@fieldseal/testkit'
import { createMigrator, type MigratorOptions } from '../../src/create-migrator.ts'

export const PATIENTS: ModelDeclaration = {
  id: 'patients',
  options: { tenantBy: 'clinic' },
  fields: [
    { path: 'email', type: 'string', options: { blindIndex: { normalize: 'email' } } },
    { path: 'ssn', type: 'string', options: {} },
    { path: 'note', type: 'string', options: {} },
  ],
  rowKey: [{ path: 'id', kind: 'integer' }],
}

/** Notes, each under the key of the patient it is about. */
export const NOTES: ModelDeclaration = {
  id: 'notes',
  options: { tenantBy: 'clinic', keyspace: { per: 'patient', of: 'patient' } },
  fields: [{ path: 'text', type: 'string', options: { blindIndex: true } }],
  rowKey: [{ path: 'id', kind: 'integer' }],
}

type Stores = {
  readonly keyStore?: KeyStore
  readonly wrapSource?: (source: RecordSource) => RecordSource
  readonly policy?: MigratorOptions['policy']
  readonly signingKey?: MigratorOptions['signingKey']
}

/** An application over fakes, with its migrator. */
export function clinic(options: Partial<FieldsealOptions<'multi'>> & Stores = {}, declarations = [PATIENTS, NOTES]) {
  const kms = fakeKms()
  const clock = fakeClock()
  const memory = memoryKeyStore()
  const { wrapSource = (source) => source, policy, signingKey, ...others } = options
  const fieldseal = createFieldseal({
    app: 'clinic',
    tenancy: 'multi',
    keyStore: memory,
    keys: { cmks: [kms.cmk('cmk-1')] },
    clock,
    ...others,
  })
  const source = memoryRecordSource(fieldseal, declarations)
  const as = <R>(tenant: string, fn: () => R) => fieldseal.runAs({ tenant }, fn)
  const migrator = createMigrator({
    fieldseal,
    sources: [wrapSource(source)],
    ...(policy === undefined ? {} : { policy }),
    ...(signingKey === undefined ? {} : { signingKey }),
  })
  const valuesOf = (id: number) => ({ email: `P${id}@x.org`, ssn: `ssn-${id}`, note: id % 3 === 0 ? null : `n${id}` })

  async function fill(tenant: string, ids: readonly number[]): Promise<void> {
    await as(tenant, async () => {
      for (const id of ids) await source.write('patients', { clinic: tenant, id }, valuesOf(id))
    })
  }
  async function fillNotes(tenant: string, ids: readonly number[]): Promise<void> {
    await as(tenant, async () => {
      for (const id of ids)
        await source.write('notes', { clinic: tenant, id, patient: String(id % 2) }, { text: `note ${id}` })
    })
  }
  const read = (tenant: string, id: number) => as(tenant, () => source.read('patients', { clinic: tenant, id }))
  /** Every row of a tenant opens to what was written. */
  async function readAll(tenant: string, ids: readonly number[]): Promise<boolean> {
    const found = await Promise.all(ids.map((id) => read(tenant, id)))
    return ids.every((id, i) => JSON.stringify(found[i]) === JSON.stringify(valuesOf(id)))
  }
  return { kms, clock, fieldseal, keyStore: memory, source, migrator, as, fill, fillNotes, read, readAll, valuesOf }
}

export const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)
