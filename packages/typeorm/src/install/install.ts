import type { AdapterHost } from '@fieldseal/core/adapter'
import type { DataSource, EntityTarget, ObjectLiteral, QueryRunner } from 'typeorm'
import { DriverUtils } from 'typeorm/driver/DriverUtils.js'
import type { Storage } from '../encrypted-column/annotation.ts'
import { declareModels } from '../entity-map/declare-models.ts'
import { createModelRegistry } from '../entity-map/model-registry.ts'
import { startKeyStore } from '../key-store/typeorm-key-store.ts'
import { compareAndSet } from '../record-source/compare-and-set.ts'
import { onPrimary } from '../record-source/table.ts'
import { createBuilders } from './create-builders.ts'
import { assertCollations, keepCollations, nonDeterministicCollations } from './collations.ts'
import { overrideDriver } from './driver.ts'
import { overrideManager } from './entity-manager.ts'
import { assertNothingDropped, guardSchemaBuilder } from './assert-nothing-dropped.ts'
import { attachInstallation, type Installation } from './installation.ts'
import { overrideRunner } from './query-runner.ts'
import type { TransactionScope } from './transaction-scope.ts'

export interface InstallOptions {
  readonly host: AdapterHost
  readonly oneConnection: boolean
  readonly transactions: TransactionScope
  readonly storage: Storage
  readonly tenantBy: string | undefined
}

/** The members of a DataSource that are overridden; one is protected. */
interface DataSourceMembers {
  initialize(): Promise<DataSource>
  buildMetadatas(): Promise<void>
  synchronize(dropBefore?: boolean): Promise<void>
  createQueryBuilder(target?: unknown, alias?: string, runner?: QueryRunner): unknown
  createEntityManager: DataSource['createEntityManager']
}

/** Puts our overrides on one DataSource: its driver, its runners, its managers, its builders. */
export function install(
  dataSource: DataSource,
  { host, oneConnection, transactions, storage, tenantBy }: InstallOptions,
): void {
  let models = createModelRegistry([])
  const installation: Installation = {
    host,
    dataSource,
    conversions: overrideDriver(dataSource.driver, () => models, storage, host.guard),
    models: () => models,
    oneConnection,
    builders: createBuilders(),
    writer: { compareAndSet: (map, patches) => compareAndSet(installation, map, patches) },
    keyTypes: new WeakMap(),
    rowsAtHand: new WeakMap(),
    offerRewrap: (...offer) => transactions.exit(() => host.rewraps.offer(...offer)),
  }
  attachInstallation(dataSource, installation)
  guardSchemaBuilder(dataSource.driver, installation)
  overrideRunners(dataSource, installation)

  const members = dataSource as unknown as DataSourceMembers // a DataSource, past its visibility and overloads
  const initialize = members.initialize.bind(dataSource)
  const buildMetadatas = members.buildMetadatas.bind(dataSource)
  const synchronize = members.synchronize.bind(dataSource)
  const createEntityManager = members.createEntityManager.bind(dataSource)

  members.buildMetadatas = async () => {
    models = createModelRegistry([])
    await buildMetadatas()
    const nonDeterministic = await nonDeterministicCollations(installation)
    const declared = declareModels(dataSource.entityMetadatas, host, (declaration) => host.defineModel(declaration), {
      storage,
      tenantBy,
      nonDeterministicCollations: nonDeterministic,
    })
    await keepCollations(installation, declared)
    models = createModelRegistry(declared)
  }
  members.initialize = async () => {
    await initialize()
    try {
      await startKeyStore(host.keyStore, dataSource)
      await onPrimary(installation, (query) => assertCollations(models.models, query))
    } catch (error) {
      await dataSource.destroy()
      throw error
    }
    return dataSource
  }
  members.synchronize = async (dropBefore) => {
    if (dropBefore !== true) await assertNothingDropped(installation)
    await synchronize(dropBefore)
  }
  members.createQueryBuilder = (target, alias, runner) => {
    if (!alias) return installation.builders.create(dataSource, target as QueryRunner | undefined)
    const name = DriverUtils.buildAlias(dataSource.driver, undefined, alias)
    const { target: entity } = dataSource.getMetadata(target as EntityTarget<ObjectLiteral>)
    return installation.builders.create(dataSource, runner).select(name).from(entity, name)
  }
  members.createEntityManager = (runner) => {
    const manager = createEntityManager(runner)
    overrideManager(manager, installation, transactions)
    return manager
  }
  overrideManager(dataSource.manager, installation, transactions)
}

function overrideRunners({ driver }: DataSource, installation: Installation): void {
  const createQueryRunner = driver.createQueryRunner.bind(driver)
  driver.createQueryRunner = (mode) => {
    const runner = createQueryRunner(mode)
    overrideRunner(runner, installation)
    return runner
  }
}
