import 'reflect-metadata'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createFieldseal } from '@fieldseal/core'
import { createKeyFile, localKms } from '@fieldseal/kms-local'
import { hasPostgres, useDatabase } from '@fieldseal/servers/vitest'
import { EncryptedColumn, EncryptedModel, typeormKeyStore, withFieldseal } from '@fieldseal/typeorm'
import { Column, DataSource, Entity, PrimaryGeneratedColumn } from 'typeorm'
import { describe, expect, it } from 'vitest'
import { markedIn, shownIn } from './marked-code.ts'

// README:begin
@Entity('patients')
@EncryptedModel({ tenantBy: 'clinicId' })
class Patient {
  @PrimaryGeneratedColumn('uuid') id!: string
  @Column('varchar') clinicId!: string
  @EncryptedColumn({ blindIndex: { normalize: 'email', unique: true } }) email!: string
  @EncryptedColumn() ssn!: string
}
// README:end

describe.runIf(hasPostgres())('the code of the README', () => {
  const database = useDatabase()

  it('saves ciphertext and finds by an encrypted e-mail address', async () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'fieldseal-readme-'))
    const keyFile = path.join(folder, 'fieldseal.key')
    createKeyFile(keyFile, ['clinic-7'])
    const dataSource = new DataSource({
      type: 'postgres',
      url: database.url,
      entities: [Patient],
      synchronize: true,
      uuidExtension: 'pgcrypto',
    })
    // README:begin
    const kms = localKms({ file: keyFile })
    const fieldseal = createFieldseal({
      app: 'clinic',
      tenancy: 'multi',
      keyStore: typeormKeyStore(dataSource.options),
      keys: async (tenant) => (tenant === 'clinic-7' ? { cmks: [kms.cmk('clinic-7')] } : null),
    })
    await withFieldseal(dataSource, { fieldseal }).initialize()

    const patients = dataSource.getRepository(Patient)
    const ada = await fieldseal.runAs({ tenant: 'clinic-7' }, async () => {
      await patients.save({ clinicId: 'clinic-7', email: 'Ada@Example.org', ssn: '078-05-1120' })
      return patients.findOneBy({ email: 'ada@example.org' })
    })
    // README:end
    expect(ada).toMatchObject({ email: 'Ada@Example.org', ssn: '078-05-1120' })
    const [row] = await dataSource.query('SELECT email, ssn FROM patients')
    expect(row.email).toMatch(/^fs\.-AEB/)
    expect(JSON.stringify(row)).not.toContain('078-05-1120')
    await fieldseal.close()
    await dataSource.destroy()
    rmSync(folder, { recursive: true, force: true })
  })
})

it('is what the README shows', () => {
  const readme = readFileSync(path.join(import.meta.dirname, '..', '..', 'README.md'), 'utf8')
  const marked = markedIn(import.meta.filename)
  expect(marked).toHaveLength(2)
  expect(shownIn(readme)).toBe(marked.join('\n\n'))
})
