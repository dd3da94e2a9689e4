import { attach, verifyRows } from '@fieldseal/core/adapter'
import { isFieldsealError } from '@fieldseal/core'
import fc from 'fast-check'
import { Column, Entity, In, PrimaryColumn } from 'typeorm'
import { expect, it } from 'vitest'
import { EncryptedColumn, EncryptedModel, typeormSource } from '../src/index.ts'
import { startClinic } from './support/clinic.ts'
import { onPostgres } from './support/engine.ts'

@Entity('triples')
@EncryptedModel<Triple>({ compoundIndexes: { ab: { of: ['a', 'b'] }, cab: { of: ['c', 'a', 'b'] } } })
class Triple {
  @PrimaryColumn('int') id!: number
  @Column('varchar', { nullable: true }) plain?: string | null
  @EncryptedColumn({ nullable: true, blindIndex: true }) a?: string | null
  @EncryptedColumn({ nullable: true }) b?: string | null
  @EncryptedColumn({ nullable: true, storage: 'binary' }) c?: string | null
}

const value = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom('x', 'y', 'z') },
  { weight: 1, arbitrary: fc.constant(null) },
)
const values = fc.record({ a: value, b: value, c: value, plain: value }, { requiredKeys: [] })
const id = fc.constantFrom(1, 2, 3)
const criteria = fc.oneof(
  fc.record({ id }),
  fc.constantFrom({ a: 'x' }, { plain: 'x' }, { a: 'x', b: In(['x', 'y']) }, { id: In([1, 2]) }),
)
const operation = fc.oneof(
  fc.record({
    kind: fc.constantFrom('save' as const, 'insert' as const, 'upsert' as const, 'load' as const),
    id,
    values,
  }),
  fc.record({ kind: fc.constantFrom('update' as const, 'build' as const), criteria, values }),
)

onPostgres('compound indexes, whatever is written', (engine) => {
  it('tokens are those of the values that stand there, or the write is refused', { timeout: 180_000 }, async () => {
    const app = await startClinic(engine, { entities: [Triple], tenancy: 'single' })
    const triples = app.repository(Triple)
    const source = typeormSource(app.dataSource)
    const map = source.models[0] ?? expect.unreachable()
    const context = attach(app.fieldseal, { name: 'test', ormVersion: '0' }).capture()
    const outcomes = { written: 0, refused: 0 }

    async function run(one: typeof operation extends fc.Arbitrary<infer T> ? T : never): Promise<unknown> {
      switch (one.kind) {
        case 'save':
          return triples.save({ id: one.id, ...one.values })
        case 'insert':
          return triples
            .createQueryBuilder()
            .insert()
            .values({ id: one.id, ...one.values })
            .orIgnore()
            .execute()
        case 'upsert':
          return triples.upsert({ id: one.id, ...one.values }, ['id'])
        case 'load': {
          const loaded = await triples.findOne({ where: { id: one.id }, select: { id: true, a: true, plain: true } })
          return loaded && triples.save(Object.assign(loaded, one.values))
        }
        case 'update':
          return Object.keys(one.values).length === 0 ? undefined : triples.update(one.criteria, one.values)
        case 'build':
          if (Object.keys(one.values).length === 0) return undefined
          return triples.createQueryBuilder().update().set(one.values).where(one.criteria).execute()
      }
    }

    await fc.assert(
      fc.asyncProperty(fc.array(operation, { minLength: 2, maxLength: 8 }), async (operations) => {
        await app.dataSource.query('TRUNCATE triples')
        for (const one of operations) {
          try {
            await run(one)
            outcomes.written++
          } catch (error) {
            if (!isFieldsealError(error) && !/onConflict|upsert/i.test(String(error))) throw error
            outcomes.refused++
          }
        }
        const rows = (await app.dataSource.query('SELECT * FROM triples')) as Record<string, unknown>[]
        for (const { a, b, c, ab_bidx, cab_bidx } of rows)
          expect([ab_bidx !== null, cab_bidx !== null]).toEqual([
            a !== null && b !== null,
            a !== null && b !== null && c !== null,
          ])
        for await (const page of source.pages(map, { size: 100, tokens: true })) {
          const cells = (row: (typeof page)[number]) =>
            map.fields.map((field) => ({ field, value: row.cells[field.path] ?? null }))
          const verified = page.map((row) => ({
            row: { map, facts: map.facts(row.columns, context), cells: cells(row) },
            tokens: row.tokens,
          }))
          for (const { problems } of await verifyRows(app.fieldseal, verified, context)) expect(problems).toEqual([])
        }
      }),
      { numRuns: 150 },
    )
    expect(outcomes.refused).toBeGreaterThan(0)
    expect(outcomes.written).toBeGreaterThan(outcomes.refused)
    await app.close()
  })
})
