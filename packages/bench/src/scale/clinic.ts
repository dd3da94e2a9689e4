import { createFieldseal, type Fieldseal, type TenantKeys } from '@fieldseal/core'
import type { RecordSource } from '@fieldseal/core/adapter'
import { createMigrator, type Migrator } from '@fieldseal/migrate'
import {
  EncryptedModel,
  encryptedSchemaColumn,
  typeormKeyStore,
  typeormSource,
  withFieldseal,
} from '@fieldseal/typeorm'
import { DataSource, EntitySchema } from 'typeorm'

/** `patients` are encrypted; `newcomers` are stored in plaintext, their fields are in state `migrating`. */
export type Table = 'patients' | 'newcomers'

export interface Patient {
  id: string
  clinicId: string
  email: string
  ssn: string
  note: string
}

/** An application with one table of three encrypted fields, and what migrates it. */
export interface Clinic {
  readonly table: Table
  readonly fieldseal: Fieldseal<'multi'>
  readonly dataSource: DataSource
  readonly source: RecordSource
  readonly migrator: Migrator
  close(): Promise<void>
}

/** Connects to a database of `fillClinic`'s; with `create` makes its tables. */
export async function openClinic(
  { url, table, keys }: { readonly url: string; readonly table: Table; readonly keys: TenantKeys },
  { create = false }: { readonly create?: boolean } = {},
): Promise<Clinic> {
  const bare = new DataSource({ type: 'postgres', url, entities: [schemaOf(table)], synchronize: create })
  const fieldseal = createFieldseal({ app: 'bench', tenancy: 'multi', keyStore: typeormKeyStore(bare.options), keys })
  const dataSource = await withFieldseal(bare, { fieldseal }).initialize()
  const source = typeormSource(dataSource)
  return {
    table,
    fieldseal,
    dataSource,
    source,
    migrator: createMigrator({ fieldseal, sources: [source] }),
    async close() {
      await fieldseal.close()
      await dataSource.destroy()
    },
  }
}

function schemaOf(name: Table): EntitySchema<Patient> {
  const field = () => encryptedSchemaColumn(name === 'newcomers' ? { state: 'migrating' } : {})
  const schema = new EntitySchema<Patient>({
    name,
    columns: {
      id: { type: 'uuid', primary: true, generated: 'uuid' },
      clinicId: { type: 'varchar' },
      email: field(),
      ssn: field(),
      note: field(),
    },
  })
  EncryptedModel<Patient>({ tenantBy: 'clinicId' })(schema)
  return schema
}
