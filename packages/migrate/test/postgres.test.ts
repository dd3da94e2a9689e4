import 'reflect-metadata'
import { isFieldsealError } from '@fieldseal/core'
import type { KekId, StoredRow } from '@fieldseal/core/adapter'
import { hasPostgres, useDatabase } from '@fieldseal/servers/vitest'
import { fakeKms } from '@fieldseal/testkit'
import { CreateFieldsealTables1764000000000, EncryptedColumn, EncryptedModel, typeormSource } from '@fieldseal/typeorm'
import { Column, Entity, PrimaryGeneratedColumn } from 'typeorm'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { reportOf } from '../src/report/report.ts'
import { startProcess } from './support/on-postgres.ts'

@Entity('patients')
@EncryptedModel({ tenantBy: 'clinicId' })
class Patient {
  @PrimaryGeneratedColumn('uuid') id!: string
  @Column('varchar') clinicId!: string
  @EncryptedColumn({ blindIndex: { normalize: 'email' } }) email!: string
  @EncryptedColumn() ssn!: string
  @EncryptedColumn({ nullable: true }) note!: string | null
}

@Entity('notes')
@EncryptedModel({ tenantBy: 'clinicId', keyspace: { per: 'patient', of: 'patient' } })
class Note {
  @PrimaryGeneratedColumn('uuid') id!: string
  @Column('varchar') clinicId!: string
  @Column('varchar') patient!: string
  @EncryptedColumn({ blindIndex: true }) text!: string
}

describe.runIf(hasPostgres())('on PostgreSQL, through TypeORM', () => {
  const database = useDatabase()
  const kms = fakeKms()
  const open: (() => Promise<void>)[] = []

  /** One process with its own caches and pool. */
  async function start(synchronize = false) {
    const { dataSource, fieldseal, migrator, stop } = await startProcess({
      url: database.url,
      entities: [Patient, Note],
      synchronize,
      kms,
      tenancy: 'multi',
    })
    open.push(stop)
    const as = <R>(tenant: string, fn: () => R) => fieldseal.runAs({ tenant }, fn)
    return {
      dataSource,
      fieldseal,
      migrator,
      as,
      patients: dataSource.getRepository(Patient),
      notes: dataSource.getRepository(Note),
    }
  }
  type App = Awaited<ReturnType<typeof start>>
  let app: App
  beforeAll(async () => {
    app = await start(true)
    const runner = app.dataSource.createQueryRunner()
    await new CreateFieldsealTables1764000000000().up(runner)
    await runner.release()
  })
  afterAll(async () => {
    for (const close of open) await close()
  })

  const patient = (i: number) => ({
    clinicId: 'a',
    email: `p${i}@x.org`,
    ssn: `s${i}`,
    note: i % 2 === 0 ? null : `n${i}`,
  })

  it('rewraps, verifies tokens and all, re-encrypts, and counts exactly', async () => {
    const { migrator, patients, as } = app
    await as('a', () => patients.save(Array.from({ length: 250 }, (_, i) => patient(i))))
    await migrator.rotateKek({ tenant: 'a' })
    const report = await migrator.rewrap({ tenant: 'a', batchSize: 40, concurrency: 3 })
    expect(report.models).toMatchObject([{ model: 'patients', rows: 250, updated: 250, remaining: 0 }, { rows: 0 }])
    const verified = await migrator.verify({ batchSize: 100 })
    expect(verified.models[0]).toMatchObject({ unchanged: 250, counts: { values: 625, tokens: 250, outdated: 0 } })
    const status = await migrator.status({ tenant: 'a' })
    const [first] = status.keys.filter(({ purpose }) => purpose === 'wrap')
    expect(status.rewrap).toEqual({ newest: 250, older: 0, exact: true })
    const renewed = await migrator.reEncrypt({ kek: first?.id ?? '' })
    expect(renewed.models[0]).toMatchObject({ updated: 250, remaining: 0 })
    expect(await as('a', () => patients.countBy({ clinicId: 'a', email: 'P7@x.org' }))).toBe(1)
    expect((await migrator.verify()).remaining).toBe(0)
    expect(await migrator.doctor()).toEqual([])
  })

  it('finds a token that was moved, and a value', async () => {
    const { dataSource, migrator, patients, as } = app
    await as('b', () =>
      patients.save([
        { ...patient(1), clinicId: 'b' },
        { ...patient(2), clinicId: 'b' },
      ]),
    )
    await dataSource.query(
      `UPDATE patients SET email_bidx = (SELECT email_bidx FROM patients WHERE "clinicId" = 'a' LIMIT 1) WHERE id = (SELECT id FROM patients WHERE "clinicId" = 'b' LIMIT 1)`,
    )
    const error: unknown = await migrator.verify({ tenant: 'b' }).catch((e: unknown) => e)
    expect(reportOf(error)?.models[0]).toMatchObject({ rows: 2, failed: 1, failures: [{ code: 'ERR_TOKEN_MISMATCH' }] })
    await dataSource.query(`DELETE FROM patients WHERE "clinicId" = 'b'`)
  })

  it('shreds a data subject and clears the tokens of its rows', async () => {
    const { dataSource, migrator, notes, as } = app
    await as('a', () =>
      notes.save(['7', '7', '8'].map((one) => ({ clinicId: 'a', patient: one, text: `about ${one}` }))),
    )
    const confirm = 'subject:patient:7'
    const plan = await migrator.plan('shred', { tenant: 'a', keyspace: confirm, destroyAfterDays: 0 })
    expect(await migrator.apply(plan, { confirm })).toMatchObject({ report: { state: 'destroyed', tokensCleared: 2 } })
    const stored = await dataSource.query('SELECT patient FROM notes WHERE text_bidx IS NOT NULL')
    expect(stored).toEqual([{ patient: '8' }])
    await expect(as('a', () => notes.findBy({ clinicId: 'a', patient: '7' }))).rejects.toMatchObject({ kind: 'erased' })
    const report = await migrator.rewrap({ tenant: 'a' })
    expect(report.models[1]).toMatchObject({ model: 'notes', erased: 2, remaining: 0 })
    expect((await migrator.verify({ tenant: 'a' })).models[1]).toMatchObject({ erased: 2, failed: 0 })
  })

  it('clears no token of a row that went to another keyspace or tenant since it was read', async () => {
    const { dataSource, notes, as } = app
    const saved = await as('c', () =>
      notes.save(['1', '2', '3'].map((one) => ({ clinicId: 'c', patient: one, text: `about ${one}` }))),
    )
    const source = typeormSource(dataSource)
    const map = source.models.find(({ id }) => id === 'notes') ?? expect.unreachable()
    const keys: StoredRow['key'][] = []
    for await (const page of source.pages(map, { size: 100, tenant: 'c' })) keys.push(...page.map(({ key }) => key))
    await dataSource.query('UPDATE notes SET patient = $2 WHERE id = $1', [saved[0]?.id, '9'])
    await dataSource.query('UPDATE notes SET "clinicId" = $2 WHERE id = $1', [saved[1]?.id, 'd'])
    await source.clearTokens?.(map, keys)
    const cleared = await dataSource.query(
      `SELECT patient FROM notes WHERE "clinicId" IN ('c', 'd') AND text_bidx IS NULL`,
    )
    expect(cleared).toEqual([{ patient: '3' }])
    await dataSource.query(`DELETE FROM notes WHERE "clinicId" IN ('c', 'd')`)
  })

  it(
    'keeps every row readable and loses no update while two migrators and writers work on the same rows',
    async () => {
      const { as, patients, migrator } = app
      const rows = await as('a', () => patients.findBy({ clinicId: 'a' }))
      const ids = rows.slice(0, 60).map(({ id }) => id)
      const [one, two, third] = await Promise.all([start(), start(), start()])
      const until = Date.now() + Number(process.env['FIELDSEAL_SOAK_MS'] ?? 4_000)
      const expected = new Map<string, string>()
      const failures: unknown[] = []
      let writes = 0
      async function writer({ as: act, patients: table }: App, mine: readonly string[]): Promise<void> {
        for (let i = 0; Date.now() < until; i++) {
          const id = mine[i % mine.length] ?? ''
          const note = `w${writes++}`
          await act('a', () => table.update({ id, clinicId: 'a' }, { note }))
          expected.set(id, note)
          const found = await act('a', () => table.findOneByOrFail({ id, clinicId: 'a' }))
          if (found.note !== note) failures.push(`${id}: ${found.note} for ${note}`)
        }
      }
      const leaving = new Set<KekId>()
      async function migrate({ migrator: own }: App, verb: 'rewrap' | 'both'): Promise<void> {
        while (Date.now() < until) {
          try {
            if (verb === 'both') {
              const { rotated } = await own.rotateKek({ tenant: 'a' })
              for (const { demoted } of rotated) for (const id of demoted) leaving.add(id)
            }
            // Two jobs by name, over the same rows.
            const scope = verb === 'both' ? { tenant: 'a' } : { tenant: 'a', model: 'patients' }
            await own.rewrap({ ...scope, batchSize: 25, concurrency: 4, restart: true })
          } catch (error) {
            const known = isFieldsealError(error) && /ROWS_REMAIN|CHECKPOINT/.test(error.code)
            if (!known) throw error
          }
        }
      }
      const share = (n: number) => ids.filter((_, i) => i % 8 === n)
      await Promise.all([
        migrate(one, 'both'),
        migrate(two, 'rewrap'),
        ...[0, 1, 2, 3].map((n) => writer(app, share(n))),
        ...[4, 5, 6, 7].map((n) => writer(third, share(n))),
      ])
      expect(failures).toEqual([])
      expect(writes).toBeGreaterThan(20)
      const after = await as('a', () => patients.findBy({ clinicId: 'a' }))
      for (const [id, note] of expected) expect(after.find((row) => row.id === id)?.note).toBe(note)
      await migrator.rewrap({ tenant: 'a', restart: true })
      expect((await migrator.verify({ tenant: 'a', restart: true })).remaining).toBe(0)
      expect(leaving.size).toBeGreaterThan(0)
    },
    Number(process.env['FIELDSEAL_SOAK_MS'] ?? 0) + 30_000,
  )
})
