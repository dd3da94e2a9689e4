// One process of an application, started by a test: waits for a line on stdin, then writes rows of the tenants it is told.
import { once } from 'node:events'
import { createFieldseal } from '@fieldseal/core'
import { localKms } from '@fieldseal/kms-local'
import { DataSource, EntitySchema } from 'typeorm'
import { EncryptedModel, encryptedSchemaColumn, typeormKeyStore, withFieldseal } from '../../src/index.ts'

const [url = '', file = '', name = '', ...tenants] = process.argv.slice(2)
// A schema, not a class: Node strips types, and refuses decorators.
const patients = new EntitySchema<{ id: string; clinicId: string; email: string }>({
  name: 'patients',
  columns: {
    id: { type: 'uuid', primary: true, generated: 'uuid' },
    clinicId: { type: 'varchar' },
    email: encryptedSchemaColumn({ blindIndex: { unique: true } }),
  },
})
EncryptedModel<{ id: string; clinicId: string; email: string }>({ tenantBy: 'clinicId' })(patients)
const dataSource = new DataSource({ type: 'postgres', url, entities: [patients] })
const fieldseal = createFieldseal({
  app: 'race',
  tenancy: 'multi',
  keyStore: typeormKeyStore({ ...dataSource.options, synchronize: true } as typeof dataSource.options),
  keys: { cmks: [localKms({ file }).cmk('default')] },
})
await withFieldseal(dataSource, { fieldseal }).initialize()
process.stdout.write('ready\n')
await once(process.stdin, 'data')
await Promise.all(
  tenants.map((tenant) =>
    fieldseal.runAs({ tenant }, () =>
      dataSource.getRepository(patients).save({ clinicId: tenant, email: `${name}@x.org` }),
    ),
  ),
)
await fieldseal.close()
await dataSource.destroy()
process.exit(0)
