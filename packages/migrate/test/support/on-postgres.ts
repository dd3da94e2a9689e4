import { createFieldseal, type FieldsealOptions } from '@fieldseal/core'
import type { FakeKms } from '@fieldseal/testkit'
import { typeormKeyStore, typeormSource, withFieldseal } from '@fieldseal/typeorm'
import { DataSource, type DataSourceOptions } from 'typeorm'
import { createMigrator } from '../../src/create-migrator.ts'

type PostgresOptions = Extract<DataSourceOptions, { type: 'postgres' }>

/** One process on PostgreSQL with its own caches and pool. */
export async function startProcess<T extends 'single' | 'multi'>({
  kms,
  tenancy,
  app = 'clinic',
  ...options
}: Pick<PostgresOptions, 'url' | 'entities' | 'synchronize' | 'extra'> & {
  readonly kms: FakeKms
  readonly tenancy: T
  readonly app?: string
}) {
  const dataSource = new DataSource({ type: 'postgres', ...options })
  const fieldseal = createFieldseal<T>({
    app,
    tenancy,
    keyStore: typeormKeyStore(dataSource.options),
    keys: { cmks: [kms.cmk('cmk-1')] },
    cache: { refreshAfterMs: 20, validForMs: 100, maxStaleMs: 200 },
  } as FieldsealOptions<T>) // a set of CMKs fits both tenancies
  await withFieldseal(dataSource, { fieldseal }).initialize()
  const migrator = createMigrator({ fieldseal, sources: [typeormSource(dataSource)] })
  async function stop(): Promise<void> {
    await fieldseal.close()
    await dataSource.destroy()
  }
  return { dataSource, fieldseal, migrator, stop }
}
