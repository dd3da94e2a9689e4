import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createFieldseal } from '@fieldseal/core'
import { createKeyFile, localKms } from '@fieldseal/kms-local'
import { Column, DataSource, Entity, PrimaryGeneratedColumn } from 'typeorm'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { EncryptedColumn, EncryptedModel, typeormKeyStore, withFieldseal } from '../src/index.ts'
import { startClinic } from './support/clinic.ts'
import { onPostgres } from './support/engine.ts'
import { Wire } from './support/wire.ts'

@Entity('patients')
@EncryptedModel<Patient>({ tenantBy: 'clinicId' })
class Patient {
  @PrimaryGeneratedColumn('uuid') id!: string
  @Column('varchar') clinicId!: string
  @EncryptedColumn({ blindIndex: { unique: true } }) email!: string
}

onPostgres('several processes and connections', (engine) => {
  let folder = ''
  let file = ''
  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'fieldseal-typeorm-'))
    file = path.join(folder, 'keys')
    createKeyFile(file)
  })
  afterAll(() => rm(folder, { recursive: true, force: true }))

  function startProcess(name: string, tenants: readonly string[]): ChildProcess {
    const { url } = engine.options(new Wire())
    const script = path.join(import.meta.dirname, 'support/first-key-process.ts')
    const options = [
      '--conditions=@fieldseal/source',
      '--disable-warning=ExperimentalWarning',
      script,
      String(url),
      file,
      name,
      ...tenants,
    ]
    return spawn(process.execPath, options, { stdio: ['pipe', 'pipe', 'inherit'] })
  }

  it('processes that make the first keys of tenants at the same time end with one each', {
    timeout: 60_000,
  }, async () => {
    const dataSource = new DataSource({ ...engine.options(new Wire()), entities: [Patient], synchronize: true })
    const fieldseal = createFieldseal({
      app: 'race',
      tenancy: 'multi',
      keyStore: typeormKeyStore(dataSource.options),
      keys: { cmks: [localKms({ file }).cmk('default')] },
    })
    await withFieldseal(dataSource, { fieldseal }).initialize()
    const tenants = Array.from({ length: 10 }, (_, i) => `t${i}`)
    const processes = ['p1', 'p2', 'p3'].map((name) => startProcess(name, tenants))
    await Promise.all(processes.map(({ stdout }) => once(stdout ?? process.stdin, 'data')))
    const exits = processes.map((child) => once(child, 'exit'))
    for (const { stdin } of processes) stdin?.write('go\n')
    expect((await Promise.all(exits)).map(([code]) => code as number)).toEqual([0, 0, 0])
    const keks = await dataSource.query<{ tenant: string; n: number }[]>(
      `SELECT tenant, count(*)::int AS n FROM fieldseal_keys WHERE kind = 'kek' GROUP BY tenant`,
    )
    expect(keks).toHaveLength(10)
    expect(keks.every(({ n }) => n === 2)).toBe(true) // one to wrap with, one for the index
    for (const tenant of tenants) {
      const found = await fieldseal.runAs({ tenant }, () =>
        dataSource.getRepository(Patient).findBy({ clinicId: tenant }),
      )
      expect(found.map(({ email }) => email).toSorted()).toEqual(['p1@x.org', 'p2@x.org', 'p3@x.org'])
      expect(
        await fieldseal.runAs({ tenant }, () => dataSource.getRepository(Patient).countBy({ email: 'p2@x.org' })),
      ).toBe(1)
    }
    await fieldseal.close()
    await dataSource.destroy()
  })

  it('a pool of two with twenty transactions waiting for cold keys does not deadlock', {
    timeout: 30_000,
  }, async () => {
    const clinic = await startClinic(engine, { entities: [Patient], tenancy: 'multi', dataSource: { poolSize: 2 } })
    clinic.kms.latencyMs = 30
    const tenants = Array.from({ length: 20 }, (_, i) => `cold${i}`)
    const work = async (tenant: string) => {
      const runner = clinic.dataSource.createQueryRunner()
      try {
        await runner.startTransaction()
        await clinic.fieldseal.runAs({ tenant }, () =>
          runner.manager.save(Patient, { clinicId: tenant, email: 'a@x.org' }),
        )
        await runner.commitTransaction()
      } finally {
        await runner.release()
      }
    }
    await Promise.all(tenants.map(work))
    for (const tenant of tenants) clinic.fieldseal.purge(tenant)
    await Promise.all(
      tenants.map((tenant) =>
        clinic.fieldseal.runAs({ tenant }, () =>
          clinic.dataSource.transaction((manager) => manager.findOneByOrFail(Patient, { email: 'a@x.org' })),
        ),
      ),
    )
    await clinic.close()
  })

  it('a key made inside a transaction that rolls back is committed on its own, and used', {
    timeout: 30_000,
  }, async () => {
    const clinic = await startClinic(engine, { entities: [Patient], tenancy: 'multi' })
    const runner = clinic.dataSource.createQueryRunner()
    await runner.startTransaction()
    await clinic.fieldseal.runAs({ tenant: 'rolled' }, () =>
      runner.manager.save(Patient, { clinicId: 'rolled', email: 'a@x.org' }),
    )
    await runner.rollbackTransaction()
    await runner.release()
    await clinic.fieldseal.runAs({ tenant: 'rolled' }, () =>
      clinic.repository(Patient).save({ clinicId: 'rolled', email: 'b@x.org' }),
    )
    clinic.fieldseal.purge('rolled')
    expect(
      await clinic.fieldseal.runAs({ tenant: 'rolled' }, () =>
        clinic.repository(Patient).findBy({ clinicId: 'rolled' }),
      ),
    ).toMatchObject([{ email: 'b@x.org' }])
    const keks = await clinic.dataSource.query<object[]>(
      `SELECT 1 FROM fieldseal_keys WHERE tenant = 'rolled' AND kind = 'kek'`,
    )
    expect(keks).toHaveLength(2)
    await clinic.close()
  })

  it('a KMS that is down: nothing is written, connection and transaction are given back, cached keys go on', {
    timeout: 30_000,
  }, async () => {
    const clinic = await startClinic(engine, { entities: [Patient], tenancy: 'multi', dataSource: { poolSize: 2 } })
    const as = <R>(tenant: string, fn: () => R) => clinic.fieldseal.runAs({ tenant }, fn)
    await as('up', () => clinic.repository(Patient).save({ clinicId: 'up', email: 'a@x.org' }))
    clinic.kms.disconnect()
    for (const run of [
      () => clinic.repository(Patient).save({ clinicId: 'down', email: 'a@x.org' }),
      () => clinic.repository(Patient).insert({ clinicId: 'down', email: 'a@x.org' }),
      () => clinic.repository(Patient).findBy({ email: 'a@x.org', clinicId: 'down' }),
      () => clinic.dataSource.transaction((manager) => manager.save(Patient, { clinicId: 'down', email: 'a@x.org' })),
    ]) {
      await expect(as<Promise<unknown>>('down', run)).rejects.toMatchObject({ kind: 'unavailable' })
    }
    expect(await as('up', () => clinic.repository(Patient).findOneBy({ email: 'a@x.org' }))).toMatchObject({
      clinicId: 'up',
    })
    expect(await clinic.dataSource.query(`SELECT 1 FROM patients WHERE "clinicId" = 'down'`)).toEqual([])
    expect(await Promise.all(Array.from({ length: 6 }, () => clinic.dataSource.query('SELECT 1 AS one')))).toHaveLength(
      6,
    )
    await clinic.close()
  })

  it('a CMK that its owner denies: reads and writes fail, and go on when it is given back', {
    timeout: 30_000,
  }, async () => {
    const clinic = await startClinic(engine, { entities: [Patient], tenancy: 'multi' })
    const as = <R>(fn: () => R) => clinic.fieldseal.runAs({ tenant: 'denied' }, fn)
    await as(() => clinic.repository(Patient).save({ clinicId: 'denied', email: 'a@x.org' }))
    clinic.kms.deny('test-key')
    clinic.fieldseal.purge('denied')
    await expect(as(() => clinic.repository(Patient).findOneBy({ email: 'a@x.org' }))).rejects.toMatchObject({
      kind: 'denied',
    })
    await expect(as(() => clinic.repository(Patient).findBy({ clinicId: 'denied' }))).rejects.toMatchObject({
      kind: 'denied',
    })
    await expect(
      as(() => clinic.repository(Patient).save({ clinicId: 'denied', email: 'b@x.org' })),
    ).rejects.toMatchObject({ kind: 'denied' })
    clinic.kms.restore()
    clinic.fieldseal.purge('denied')
    expect(await as(() => clinic.repository(Patient).findBy({ clinicId: 'denied' }))).toMatchObject([
      { email: 'a@x.org' },
    ])
    await clinic.close()
  })

  it('a thousand rows of one tenant, read cold, cost one call to the KMS', { timeout: 30_000 }, async () => {
    const clinic = await startClinic(engine, { entities: [Patient], tenancy: 'multi' })
    const as = <R>(fn: () => R) => clinic.fieldseal.runAs({ tenant: 'many' }, fn)
    await as(() =>
      clinic.repository(Patient).save(Array.from({ length: 1_000 }, (_, i) => ({ clinicId: 'many', email: `${i}` }))),
    )
    clinic.fieldseal.purge('many')
    clinic.kms.calls.length = 0
    expect(await as(() => clinic.repository(Patient).findBy({ clinicId: 'many' }))).toHaveLength(1_000)
    expect(clinic.kms.calls).toHaveLength(1)
    await clinic.close()
  })
})
