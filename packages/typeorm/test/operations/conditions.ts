import {
  And,
  Any,
  ArrayContains,
  Between,
  Equal,
  type FindOptionsWhere,
  ILike,
  In,
  IsNull,
  JsonContains,
  LessThan,
  LessThanOrEqual,
  Like,
  MoreThan,
  MoreThanOrEqual,
  Not,
  Or,
  Raw,
} from 'typeorm'
import type { Bench } from './repositories.ts'
import type { Teller } from './told.ts'
import { Patient, STORED } from './ward.ts'

const { email, age, ssn, room } = STORED

export function conditions({ protects, refuses }: Teller, { clinic }: Bench): void {
  const find = (where: FindOptionsWhere<Patient> | FindOptionsWhere<Patient>[]) =>
    clinic().repository(Patient).findBy(where)
  const opened = { finds: true, gives: 'plaintext' } as const
  const finds = (name: string, what: string, where: FindOptionsWhere<Patient> | FindOptionsWhere<Patient>[]) =>
    protects('find options', name, what, opened, () => find(where))

  finds('equality', 'of a searchable column', { email })
  finds('equality', 'normalised as the column says', { email: email.toUpperCase() })
  finds('equality', 'of a column of a relation', { stays: { room } })
  finds('equality', 'several columns, all of them', { email, age })
  finds('equality', 'several columns, one of them', [{ email }, { age }])
  finds('Equal', 'of a searchable column', { email: Equal(email) })
  finds('In', 'of a searchable column', { age: In([1, age]) })
  finds('Not', 'of a searchable column', { age: Not(1) })
  finds('Not(In)', 'of a searchable column', { age: Not(In([1, 2])) })
  finds('And', 'of what can be answered', { age: And(Equal(age), Not(1)) })
  finds('Or', 'of what can be answered', { age: Or(Equal(age), Equal(1)) })
  protects('find options', 'IsNull', 'a null is stored as null', {}, () => find({ ssn: IsNull() }))
  protects('find options', 'Not(IsNull)', 'a null is stored as null', { gives: 'plaintext' }, () =>
    find({ ssn: Not(IsNull()) }),
  )

  refuses('find options', 'equality', 'of a column without a blind index', 'ERR_QUERY_UNSUPPORTED no-blind-index', () =>
    find({ ssn }),
  )
  refuses('find options', 'Equal', 'of null', 'ERR_QUERY_UNSUPPORTED null-in-condition', () =>
    find({ email: Equal(null as never) }),
  )
  const unanswerable = [
    ['Like', Like('%mail%'), 'like'],
    ['ILike', ILike('%mail%'), 'ilike'],
    ['MoreThan', MoreThan('a'), 'more-than'],
    ['MoreThanOrEqual', MoreThanOrEqual('a'), 'more-than-or-equal'],
    ['LessThan', LessThan('a'), 'less-than'],
    ['LessThanOrEqual', LessThanOrEqual('a'), 'less-than-or-equal'],
    ['Between', Between('a', 'b'), 'between'],
    ['Any', Any(['a']), 'any'],
    ['ArrayContains', ArrayContains(['a']), 'array-contains'],
    ['JsonContains', JsonContains({ a: 1 }), 'json-contains'],
    ['Raw', Raw((alias) => `${alias} IS NOT NULL`), 'raw'],
    ['Not(Like)', Not(Like('a')), 'like'],
    ['And', And(Equal('a'), Like('a')), 'like'],
  ] as const
  for (const [name, operator, reason] of unanswerable)
    refuses('find options', name, 'of an encrypted column', `ERR_QUERY_UNSUPPORTED ${reason}`, () =>
      find({ email: operator as never }),
    )
}
