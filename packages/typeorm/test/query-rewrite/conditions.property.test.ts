import fc from 'fast-check'
import {
  And,
  Brackets,
  Column,
  Entity,
  Equal,
  In,
  IsNull,
  Not,
  NotBrackets,
  Or,
  PrimaryColumn,
  type FindOperator,
  type ObjectLiteral,
  type WhereExpressionBuilder,
} from 'typeorm'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { EncryptedColumn } from '../../src/index.ts'
import { startClinic, type Clinic } from '../support/clinic.ts'
import { onPglite } from '../support/engine.ts'

@Entity('pairs')
class Pair {
  @PrimaryColumn('int') id!: number
  @Column('varchar', { nullable: true }) plain?: string | null
  @EncryptedColumn({ nullable: true, blindIndex: true }) sealed?: string | null
}

type Operator = { readonly kind: string; readonly values?: readonly string[]; readonly of?: readonly Operator[] }

const value = fc.constantFrom('a', 'b', 'c', 'nobody')
const { operator } = fc.letrec<{ operator: Operator }>((tie) => ({
  operator: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    fc.record({ kind: fc.constant('equal'), values: fc.tuple(value) }),
    fc.record({ kind: fc.constant('in'), values: fc.array(value, { maxLength: 3 }) }),
    fc.constant({ kind: 'isNull' }),
    fc.record({ kind: fc.constant('not'), of: fc.tuple(tie('operator')) }),
    fc.record({ kind: fc.constantFrom('and', 'or'), of: fc.array(tie('operator'), { minLength: 1, maxLength: 3 }) }),
  ),
}))

function build({ kind, values = [], of = [] }: Operator): FindOperator<string> {
  const parts = of.map(build)
  const [first = IsNull()] = parts
  switch (kind) {
    case 'equal':
      return Equal(values[0] ?? '')
    case 'in':
      return In([...values])
    case 'not':
      return Not(first)
    case 'and':
      return And(...parts)
    case 'or':
      return Or(...parts)
    default:
      return IsNull()
  }
}

onPglite('conditions on tokens', (engine) => {
  let clinic: Clinic<'single'>
  beforeAll(async () => {
    clinic = await startClinic(engine, { entities: [Pair], tenancy: 'single' })
    const values = ['a', 'b', 'c', null, 'a', null]
    await clinic.repository(Pair).save(values.map((each, id) => ({ id, plain: each, sealed: each })))
  })
  afterAll(() => clinic?.close())
  const pairs = () => clinic.repository(Pair)
  const ids = (found: readonly Pair[]) => found.map(({ id }) => id).toSorted((a, b) => a - b)

  it('find what the same conditions find on a plain column', { timeout: 60_000 }, () =>
    fc.assert(
      fc.asyncProperty(operator, operator, async (one, two) => {
        const by = (column: 'plain' | 'sealed') =>
          [{ [column]: build(one) }, { [column]: build(two), id: Not(3) }] as ObjectLiteral[]
        expect(ids(await pairs().findBy(by('sealed')))).toEqual(ids(await pairs().findBy(by('plain'))))
        expect(await pairs().countBy(by('sealed'))).toBe(await pairs().countBy(by('plain')))
      }),
      { numRuns: 300 },
    ),
  )

  it('… in builders, brackets and negated brackets', { timeout: 60_000 }, () =>
    fc.assert(
      fc.asyncProperty(operator, operator, fc.boolean(), fc.boolean(), async (one, two, negated, alternative) => {
        const found = (column: 'plain' | 'sealed') => {
          const inner = (where: WhereExpressionBuilder) => {
            where.where({ [column]: build(one) })
            if (alternative) where.orWhere({ [column]: build(two) })
            else where.andWhere({ [column]: build(two) })
          }
          return pairs()
            .createQueryBuilder('p')
            .where(negated ? new NotBrackets(inner) : new Brackets(inner))
            .getMany()
        }
        expect(ids(await found('sealed'))).toEqual(ids(await found('plain')))
      }),
      { numRuns: 300 },
    ),
  )
})
