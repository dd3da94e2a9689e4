import { inspect } from 'node:util'
import { leakOracle } from '@fieldseal/testkit'
import {
  DeleteQueryBuilder,
  EventSubscriber,
  In,
  InsertQueryBuilder,
  Not,
  SelectQueryBuilder,
  UpdateQueryBuilder,
  type AfterQueryEvent,
  type BeforeQueryEvent,
  type EntitySubscriberInterface,
  type InsertEvent,
  type LoadEvent,
  type UpdateEvent,
} from 'typeorm'
import { expect, it } from 'vitest'
import { decryptRaw, typeormSource } from '../src/index.ts'
import { startClinic } from './support/clinic.ts'
import { onEachEngine } from './support/engine.ts'
import { Document, ENTITIES, Person, Visit } from './support/entities.ts'

const seen = { queries: [] as unknown[], entities: [] as unknown[] }

@EventSubscriber()
class Watcher implements EntitySubscriberInterface<Person> {
  listenTo() {
    return Person
  }
  beforeQuery(event: BeforeQueryEvent) {
    seen.queries.push(event.query, event.parameters)
  }
  afterQuery(event: AfterQueryEvent) {
    seen.queries.push(
      event.query,
      event.parameters,
      event.error,
      inspect(event.rawResults, { depth: 9, maxArrayLength: null }),
    )
  }
  beforeInsert(event: InsertEvent<Person>) {
    seen.entities.push(event.entity.email)
  }
  afterUpdate(event: UpdateEvent<Person>) {
    seen.entities.push(event.entity?.['ssn'])
  }
  afterLoad(entity: Person, _event?: LoadEvent<Person>) {
    seen.entities.push(entity.email)
  }
}

onEachEngine('leaks', (engine) => {
  it('no known plaintext leaves the process, whatever the operation, and subscribers see it', {
    timeout: 60_000,
  }, async () => {
    await using oracle = leakOracle()
    const clinic = await startClinic(engine, {
      entities: ENTITIES,
      tenancy: 'single',
      dataSource: { subscribers: [Watcher] },
    })
    const people = clinic.repository(Person)
    const c = (text: string) => oracle.canary(`canary-${text}`)
    const row = (n: number) => ({
      email: c(`${n}@example.org`),
      ssn: c(`ssn-${n}`),
      nick: c(`nick-${n}`),
      secret: c(`secret-${n}`),
      profile: { a: n, b: [n] },
      contact: { phone: c(`phone-${n}`), city: 'Rome' },
    })
    const errors: unknown[] = []
    const attempt = (run: () => Promise<unknown>) =>
      run().catch((error: unknown) => void errors.push(error, inspect(error, { depth: 9 }), JSON.stringify(error)))

    const first = await people.save({
      ...row(1),
      visits: [{ note: c('note-1'), code: c('code-1') }],
      tags: [{ label: c('tag-1') }],
    })
    await people.insert([row(2), row(3)])
    await people.createQueryBuilder().insert().values(row(4)).returning(['email', 'ssn']).callListeners(false).execute()
    await people.upsert({ ...row(2), ssn: c('ssn-upserted') }, ['email'])
    await people.update({ nick: c('nick-3') }, { ssn: c('ssn-updated') })
    await people.update(first.id, { contact: { phone: c('phone-updated') } })
    await people
      .createQueryBuilder()
      .update()
      .set({ secret: c('secret-updated') })
      .where({ email: In([c('2@example.org'), c('5@example.org')]) })
      .execute()
    await people.find({
      where: [{ email: c('1@example.org') }, { nick: Not(c('nick-1')) }],
      relations: { visits: true, tags: true },
    })
    await people.find({
      where: { contact: { phone: c('phone-2') } },
      relations: { visits: true },
      take: 1,
      order: { name: 'ASC' },
    })
    await people.countBy({ visits: { code: c('code-1') } })
    await people.existsBy({ email: c('missing@example.org') })
    await decryptRaw(
      people,
      await people
        .createQueryBuilder('p')
        .where({ email: c('1@example.org') })
        .getRawMany(),
    )
    await clinic.repository(Document).save({ year: 1, number: 'x', title: c('title') })
    const loaded = await people.findOneByOrFail({ email: c('1@example.org') })
    loaded.ssn = c('ssn-changed')
    await people.save(loaded)
    await people.softDelete({ email: c('3@example.org') })
    await people.restore({ email: c('3@example.org') })
    await people.delete({ email: c('4@example.org') })
    await clinic.repository(Visit).delete({ code: c('code-1') })
    await attempt(() => people.insert(row(1)))
    await attempt(() => people.findOneByOrFail({ email: c('nobody@example.org') }))
    await attempt(() => people.findOneOrFail({ where: { nick: c('no-nick'), contact: { phone: c('no-phone') } } }))
    await attempt(() =>
      people
        .createQueryBuilder('p')
        .where('p.ssn = :s', { s: c('hand-written') })
        .getMany(),
    )
    await attempt(() => people.save({ ...row(6), salary: c('not-a-number') as never }))
    await attempt(() => people.save({ ...row(7), name: 5 as never, version: 'x' as never }))
    await attempt(() =>
      clinic.dataSource.transaction(async (manager) => {
        await manager.save(Person, row(8))
        throw new Error('undo')
      }),
    )
    // Builders made past the DataSource rewrite nothing, and bring nothing over.
    const foreign = () => new SelectQueryBuilder<Person>(clinic.dataSource).select('p').from(Person, 'p')
    await attempt(() =>
      foreign()
        .where({ email: c('foreign') })
        .getMany(),
    )
    await attempt(() =>
      foreign()
        .where({ email: c('foreign') })
        .getCount(),
    )
    await attempt(() =>
      foreign()
        .setFindOptions({ where: { nick: c('foreign find') } })
        .getMany(),
    )
    await attempt(() => foreign().getMany())
    await attempt(() =>
      new InsertQueryBuilder<Person>(clinic.dataSource)
        .into(Person)
        .values({ email: c('foreign insert'), contact: {} })
        .execute(),
    )
    await attempt(() =>
      new UpdateQueryBuilder<Person>(clinic.dataSource)
        .update(Person)
        .set({ ssn: c('foreign update') })
        .execute(),
    )
    await attempt(() =>
      new DeleteQueryBuilder<Person>(clinic.dataSource)
        .from(Person)
        .where({ email: c('foreign delete') })
        .execute(),
    )
    expect(errors).toHaveLength(14 * 3)

    const builder = people.createQueryBuilder('p').where({ email: c('1@example.org'), nick: In([c('nick-1')]) })
    const insert = people.createQueryBuilder().insert().values({ email: 'x@x.org', contact: {} })
    for (const each of [
      builder,
      builder.getQueryAndParameters(),
      insert.getQueryAndParameters(),
      clinic.dataSource,
      clinic.fieldseal,
      people,
    ])
      oracle.observe(inspect(each, { depth: 8, showHidden: true }), 'inspect')
    oracle.observe(JSON.stringify(builder.getQueryAndParameters()), 'json')
    for (const [index, error] of errors.entries())
      oracle.observe(typeof error === 'string' ? error : String(error), `error ${index}`)
    oracle.observe(inspect(seen.queries, { depth: 9, maxArrayLength: null }), 'query subscribers')
    oracle.observe(clinic.wire.logged(), 'logger')
    if (engine.oneConnection) oracle.observe(clinic.wire.traffic(), 'wire')

    expect(await oracle.hits({ stored: [typeormSource(clinic.dataSource)] })).toEqual([])
    expect(seen.entities).toEqual(expect.arrayContaining(['canary-1@example.org', 'canary-ssn-changed']))
    // The oracle does find what is there.
    await clinic.dataSource.query('SELECT $1::text', [c('by the application itself')])
    if (!engine.oneConnection) expect(await oracle.hits()).not.toEqual([])
    await clinic.close()
  })
})
