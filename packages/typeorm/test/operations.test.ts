import path from 'node:path'
import pg from 'pg'
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest'
import { type Calls, noteCalls } from './operations/calls.ts'
import { conditions } from './operations/conditions.ts'
import { CLASSES } from './operations/methods.ts'
import { type Bench, repositoryReads, repositoryWrites } from './operations/repositories.ts'
import { selectEnds, selectParts } from './operations/select-builder.ts'
import { pageOf, SECRETS, teller } from './operations/told.ts'
import { trees } from './operations/trees.ts'
import { Department, ENTITIES, Notice, Patient, STORED } from './operations/ward.ts'
import { sources, writeBuilders } from './operations/write-builders.ts'
import { resultCache } from './support/result-cache.ts'
import { type Clinic, startClinic } from './support/clinic.ts'
import { onEachEngine } from './support/engine.ts'

const PAGE = path.join(import.meta.dirname, '../../../docs/reference/typeorm-operations.md')

onEachEngine('each operation of TypeORM', (engine) => {
  let clinic: Clinic<'single'>
  let id: string
  let calls: Calls
  const bench: Bench = { clinic: () => clinic, id: () => id }
  const cache = resultCache()
  const tests = teller(bench.clinic, () => calls)

  beforeAll(async () => {
    clinic = await startClinic(engine, { entities: ENTITIES, tenancy: 'single', dataSource: { cache: cache.options } })
    Object.assign(clinic.dataSource.driver, { loadStreamDependency: () => pg.Query })
    Patient.useDataSource(clinic.dataSource)
    calls = noteCalls(clinic.dataSource)
  })
  afterAll(async () => {
    calls?.stop()
    await clinic?.close()
  })
  afterEach(() => {
    for (const secret of SECRETS) expect([...cache.stored].join('\n')).not.toContain(secret)
    cache.stored.clear()
  })
  beforeEach(async () => {
    await clinic.dataSource.query('TRUNCATE patients, stays, departments, departments_closure, notices')
    const { email, ssn, age, room } = STORED
    const ada = await clinic.repository(Patient).save({ name: 'Ada', email, ssn, age, stays: [{ room }] })
    id = ada.id
    await clinic.repository(Department).save({ head: email })
    await clinic.repository(Notice).save({ text: 'closed on Sunday' })
  })

  repositoryReads(tests, bench)
  repositoryWrites(tests, bench)
  conditions(tests, bench)
  trees(tests, bench)
  selectEnds(tests, bench)
  selectParts(tests, bench)
  writeBuilders(tests, bench)
  sources(tests, bench)

  it.each(CLASSES)('every public method of $of that can carry a value stands in the table', ({ of, told }) => {
    const stands = tests.told
      .filter(({ through }) => through.split(', ').some((one) => one === of))
      .flatMap(({ operation }) => operation.split(', '))
    expect(told.filter((method) => !stands.includes(method))).toEqual([])
  })

  it('the page in the docs tells what they show', () => expect(pageOf(tests.told)).toMatchFileSnapshot(PAGE))
})
