import 'reflect-metadata'
import { createFieldseal, isFieldsealError, type Fieldseal } from '@fieldseal/core'
import { localKms } from '@fieldseal/kms-local'
import { EncryptedColumn, EncryptedModel, typeormKeyStore, withFieldseal } from '@fieldseal/typeorm'
import { Column, DataSource, Entity, PrimaryGeneratedColumn } from 'typeorm'

@Entity('people')
@EncryptedModel({ tenantBy: 'org' })
class Person {
  @PrimaryGeneratedColumn('uuid') id!: string
  @Column('varchar') org!: string
  @EncryptedColumn({ blindIndex: { normalize: 'email' } }) email!: string
}

async function main(url: string, keyFile: string): Promise<Record<string, unknown>> {
  const dataSource = new DataSource({ type: 'postgres', url, entities: [Person], synchronize: true })
  const kms = localKms({ file: keyFile })
  const fieldseal: Fieldseal<'multi'> = createFieldseal({
    app: 'packaging',
    tenancy: 'multi',
    keyStore: typeormKeyStore(dataSource.options),
    keys: { cmks: [kms.cmk('default')] },
  })
  await withFieldseal(dataSource, { fieldseal }).initialize()
  try {
    const people = dataSource.getRepository(Person)
    const found = await fieldseal.runAs({ tenant: 'a' }, async () => {
      await people.save({ org: 'a', email: 'Ada@example.org' })
      return people.findOneBy({ email: 'ada@example.org' })
    })
    const rows: { email: string }[] = await dataSource.query('SELECT email FROM people')
    const refusal: unknown = await people.find().catch((error: unknown) => error)
    return { found: found?.email, stored: rows[0]?.email, refused: isFieldsealError(refusal) && refusal.code }
  } finally {
    await fieldseal.close()
    await dataSource.destroy()
  }
}

const [url = '', keyFile = ''] = process.argv.slice(2)
main(url, keyFile).then(
  (result) => process.stdout.write(JSON.stringify(result)),
  (error: unknown) => {
    process.stderr.write(`${String(error)}\n`)
    process.exitCode = 1
  },
)
