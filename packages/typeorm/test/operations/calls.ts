import { BaseEntity, type DataSource, EntityManager, Repository } from 'typeorm'
import { CLASSES } from './methods.ts'
import { Department, Patient } from './ward.ts'

/** Which methods of TypeORM's classes were called, as `Class.method`. */
export interface Calls {
  readonly seen: Set<string>
  stop(): void
}

/** Notes the calls of every method that stands in the table, and lets them through. */
export function noteCalls(dataSource: DataSource): Calls {
  const seen = new Set<string>()
  const undo: (() => void)[] = []
  const receivers = receiversOf(dataSource)
  for (const { of, told } of CLASSES)
    for (const method of told)
      for (const receiver of receivers[of] ?? []) {
        const original: unknown = Reflect.get(receiver, method)
        if (typeof original !== 'function') continue
        const before = Object.getOwnPropertyDescriptor(receiver, method)
        const noting = function (this: unknown, ...args: unknown[]): unknown {
          seen.add(`${of}.${method}`)
          return Reflect.apply(original, this, args)
        }
        Object.defineProperty(receiver, method, { configurable: true, writable: true, value: noting })
        undo.push(() =>
          before === undefined
            ? Reflect.deleteProperty(receiver, method)
            : Object.defineProperty(receiver, method, before),
        )
      }
  return {
    seen,
    stop() {
      for (const one of undo.toReversed()) one()
    },
  }
}

/** The objects on which callers find the methods of a class. */
function receiversOf(dataSource: DataSource): Readonly<Record<string, readonly object[]>> {
  const query = dataSource.createQueryBuilder(Patient, 'p')
  const runner = dataSource.createQueryRunner()
  const prototypeOf = (instance: object) => Object.getPrototypeOf(instance) as object
  return {
    DataSource: [dataSource],
    EntityManager: [EntityManager.prototype, dataSource.manager],
    Repository: [Repository.prototype],
    TreeRepository: [prototypeOf(dataSource.getTreeRepository(Department))],
    BaseEntity: [Patient, BaseEntity.prototype],
    SelectQueryBuilder: [prototypeOf(query)],
    InsertQueryBuilder: [prototypeOf(query.clone().insert())],
    UpdateQueryBuilder: [prototypeOf(query.clone().update())],
    DeleteQueryBuilder: [prototypeOf(query.clone().delete())],
    SoftDeleteQueryBuilder: [prototypeOf(query.clone().softDelete())],
    RelationQueryBuilder: [prototypeOf(query.clone().relation(Patient, 'stays'))],
    QueryRunner: [prototypeOf(runner)],
  }
}
