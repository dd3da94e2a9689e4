import 'reflect-metadata'
import { createFieldseal } from '@fieldseal/core'
import type { Cmk } from '@fieldseal/core/kms'
import { localKms } from '@fieldseal/kms-local'
import {
  EncryptedModel,
  encryptedSchemaColumn,
  typeormKeyStore,
  typeormSource,
  withFieldseal,
} from '@fieldseal/typeorm'
import { DataSource, type DataSourceOptions, EntitySchema } from 'typeorm'
import type { AwsCmks } from './aws-cmks.ts'

export interface Patient {
  id: string
  clinicId: string
  email: string
  ssn: string
}

export interface Note {
  id: number
  clinicId: string
  patient: string
  text: string
}

/** What is deployed, and where. */
export interface Deployed {
  readonly url: string
  readonly keyFile: string
  readonly cmks?: readonly string[]
  readonly formerCmks?: readonly string[]
  /** Instead of CMKs in the key file. */
  readonly aws?: AwsCmks
  readonly state?: 'plaintext' | 'migrating' | 'encrypted'
  readonly bindRow?: 'never' | 'when-known'
  readonly synchronize?: boolean
  /** May only read, so that rows which it has seen are not rewrapped by it. */
  readonly readOnly?: boolean
  /** Where the key store connects to. @defaultValue `url` */
  readonly keyStoreUrl?: string
  /** Shown by the database beside each connection. */
  readonly name?: string
}

function schemas({ state = 'encrypted', bindRow = 'when-known' }: Deployed) {
  const patients = new EntitySchema<Patient>({
    name: 'patients',
    columns: {
      id: { type: 'uuid', primary: true, generated: 'uuid' },
      clinicId: { type: 'varchar' },
      email: encryptedSchemaColumn({ blindIndex: { normalize: 'email' }, state }),
      ssn: encryptedSchemaColumn({ state }),
    },
  })
  EncryptedModel<Patient>({ tenantBy: 'clinicId', bindRow })(patients)
  const notes = new EntitySchema<Note>({
    name: 'notes',
    columns: {
      id: { type: 'integer', primary: true },
      clinicId: { type: 'varchar' },
      patient: { type: 'varchar' },
      text: encryptedSchemaColumn({ blindIndex: true }),
    },
  })
  EncryptedModel<Note>({ tenantBy: 'clinicId', keyspace: { per: 'patient', of: 'patient' } })(notes)
  return { patients, notes }
}

/** One process of an application over PostgreSQL, with its own caches and pools. */
export async function startClinic(deployed: Deployed) {
  const {
    url,
    keyStoreUrl = url,
    keyFile,
    cmks = ['one'],
    formerCmks = [],
    synchronize = false,
    name = 'application',
    readOnly,
  } = deployed
  const { patients, notes } = schemas(deployed)
  const dataSource = new DataSource({
    type: 'postgres',
    url,
    entities: [patients, notes],
    synchronize,
    applicationName: name,
    ...(readOnly === true ? { extra: { options: '-c default_transaction_read_only=on' } } : {}),
  })
  const kms = localKms({ file: keyFile })
  const named = (names: readonly string[]): readonly Cmk[] => names.map((one) => kms.cmk(one))
  // The SDK takes its time to load.
  const ofTenant = deployed.aws && (await import('./aws-cmks.ts')).awsCmks(deployed.aws)
  const fieldseal = createFieldseal({
    app: 'clinic',
    tenancy: 'multi',
    keyStore: typeormKeyStore({ ...dataSource.options, url: keyStoreUrl } as DataSourceOptions), // as its own options
    keys: async (tenant) => ({ cmks: ofTenant?.(tenant) ?? named(cmks), formerCmks: named(formerCmks) }),
    cache: { refreshAfterMs: 50, validForMs: 200, maxStaleMs: 1_500, callDeadlineMs: 1_500 },
  })
  withFieldseal(dataSource, { fieldseal })
  return {
    fieldseal,
    dataSource,
    patients: () => dataSource.getRepository<Patient>(patients),
    notes: () => dataSource.getRepository<Note>(notes),
    async stop() {
      await fieldseal.close()
      if (dataSource.isInitialized) await dataSource.destroy()
    },
    config: {
      fieldseal,
      sources: [typeormSource(dataSource)],
      open: () => dataSource.initialize(),
      close: () => dataSource.destroy(),
    },
  }
}

export type Clinic = Awaited<ReturnType<typeof startClinic>>
