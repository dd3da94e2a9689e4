// An ESM application with a CommonJS library in it: every object goes to the other module system's copy.
import 'reflect-metadata'
import { createRequire } from 'node:module'
import * as core from '@fieldseal/core'
import * as adapter from '@fieldseal/core/adapter'
import { localKms } from '@fieldseal/kms-local'
import * as esm from '@fieldseal/typeorm'
import { Column, DataSource, Entity, PrimaryGeneratedColumn } from 'typeorm'

const require = createRequire(import.meta.url)
const commonjs = require('@fieldseal/typeorm') as typeof esm
const commonjsCore = require('@fieldseal/core') as typeof core
const commonjsAdapter = require('@fieldseal/core/adapter') as typeof adapter

@Entity('people')
@commonjs.EncryptedModel({ tenantBy: 'org' })
class Person {
  @PrimaryGeneratedColumn('uuid') id!: string
  @Column('varchar') org!: string
  @commonjs.EncryptedColumn({ blindIndex: { normalize: 'email' } }) email!: string
}

const [url = '', keyFile = ''] = process.argv.slice(2)
const dataSource = new DataSource({ type: 'postgres', url, entities: [Person], synchronize: true })
const fieldseal = commonjsCore.createFieldseal({
  app: 'packaging',
  tenancy: 'multi',
  keyStore: commonjs.typeormKeyStore(dataSource.options),
  keys: { cmks: [localKms({ file: keyFile }).cmk('default')] },
})
await esm.withFieldseal(dataSource, { fieldseal }).initialize()
const people = dataSource.getRepository(Person)
const found = await fieldseal.runAs({ tenant: 'a' }, async () => {
  await people.save({ org: 'a', email: 'Ada@example.org' })
  return people.findOneBy({ email: 'ada@example.org' })
})
const rows: { email: string }[] = await dataSource.query('SELECT email FROM people')
const refusal: unknown = await people.find().catch((error: unknown) => error)
const theirs = new commonjsAdapter.FieldsealError('ERR_CLOSED')
process.stdout.write(
  JSON.stringify({
    found: found?.email,
    stored: rows[0]?.email,
    refused: core.isFieldsealError(refusal) && refusal.code,
    twoCopies: core.FieldsealError !== commonjsCore.FieldsealError,
    brandedAcross:
      core.isFieldsealError(theirs) && commonjsCore.isFieldsealError(new adapter.FieldsealError('ERR_CLOSED')),
  }),
)
await fieldseal.close()
await dataSource.destroy()
