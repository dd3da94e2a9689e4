import 'reflect-metadata'
import { PGlite } from '@electric-sql/pglite'
import { createFieldseal } from '@fieldseal/core'
import { Column, DataSource, Entity, PrimaryGeneratedColumn } from 'typeorm'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { EncryptedColumn, EncryptedModel, typeormKeyStore, withFieldseal } from '../src/index.ts'
import { PgliteStream } from './support/pglite-stream.ts'
import { testCmk } from './support/test-cmk.ts'

@Entity('patients')
@EncryptedModel({ tenantBy: 'clinicId' })
class Patient {
  @PrimaryGeneratedColumn('uuid') id!: string
  @Column('varchar') clinicId!: string
  @EncryptedColumn({ blindIndex: { normalize: 'email', unique: true } }) email!: string
  @EncryptedColumn({ nullable: true }) ssn!: string | null
}

let db: PGlite, dataSource: DataSource
const cmk = testCmk('a')
beforeAll(async () => {
  db = await PGlite.create()
  dataSource = new DataSource({ type: 'postgres', username: 'postgres', database: 'postgres', poolSize: 1, uuidExtension: 'pgcrypto', installExtensions: false, extra: { stream: () => new PgliteStream(db) }, entities: [Patient], synchronize: true, logging: !!process.env['LOG'] })
})
afterAll(async () => { await dataSource.destroy(); await db.close() })
it('skeleton', async () => {
  const fieldseal = createFieldseal({ app: 'test', tenancy: 'multi', keyStore: typeormKeyStore(dataSource.options), keys: { cmks: [cmk] } })
  await withFieldseal(dataSource, { fieldseal }).initialize()
  const repo = dataSource.getRepository(Patient)
  await fieldseal.runAs({ tenant: 't1' }, async () => {
    const p = await repo.save({ clinicId: 't1', email: 'Ada@Example.org', ssn: '123' })
    expect(p.email).toBe('Ada@Example.org')

    const found = await repo.findOneByOrFail({ email: 'ada@example.org' })
    expect(found).toEqual(p)

    found.ssn = null
    await repo.save(found)
    await repo.update(found.id, { ssn: '77' })
    expect(await repo.find()).toEqual([{ ...p, ssn: '77' }])
  })
})
