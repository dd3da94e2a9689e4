import { createFieldseal, type Fieldseal, type FieldsealOptions } from '@fieldseal/core'
import { sealedTexts } from '@fieldseal/config/sealed-texts'
import { DataSource, type DataSourceOptions, type ObjectLiteral, type Repository } from 'typeorm'
import { expect } from 'vitest'
import { typeormKeyStore, withFieldseal, type WithFieldsealOptions } from '../../src/index.ts'
import { fakeKms, leakOracle, type FakeKms } from '@fieldseal/testkit'
import type { Engine } from './engine.ts'
import { Wire } from './wire.ts'

type Tenancy = 'single' | 'multi'
let applications = 0

/** A running application: one DataSource, one Fieldseal, one CMK for all tenants. */
export interface Clinic<T extends Tenancy> {
  readonly dataSource: DataSource
  readonly fieldseal: Fieldseal<T>
  readonly kms: FakeKms
  readonly wire: Wire
  repository<E extends ObjectLiteral>(entity: new () => E): Repository<E>
  close(): Promise<void>
}

export interface ClinicOptions<T extends Tenancy> {
  readonly entities: DataSourceOptions['entities']
  readonly tenancy: T
  readonly dataSource?: Partial<DataSourceOptions>
  readonly fieldseal?: Partial<FieldsealOptions<T>>
  /** Shared by several applications: several processes see one KMS. */
  readonly kms?: FakeKms
  readonly registration?: Partial<WithFieldsealOptions>
  /** The test sends plaintext of encrypted columns itself: raw SQL, a column that is not encrypted yet. */
  readonly sendsPlaintext?: boolean
}

export async function startClinic<T extends Tenancy>(engine: Engine, options: ClinicOptions<T>): Promise<Clinic<T>> {
  const wire = new Wire()
  const kms = options.kms ?? fakeKms()
  const dataSource = new DataSource({
    ...engine.options(wire),
    synchronize: true,
    entities: options.entities,
    logger: wire.logger(),
    logging: 'all',
    ...options.dataSource,
  } as DataSourceOptions) // of the engine's type, whatever a test overrides
  const keys = { cmks: [kms.cmk('test-key')] }
  const fieldseal = createFieldseal<T>({
    app: `test-${++applications}`, // databases are shared by the tests of a file, keys must not be
    tenancy: options.tenancy,
    keyStore: typeormKeyStore(dataSource.options),
    keys,
    ...options.fieldseal,
  } as FieldsealOptions<T>) // a set of CMKs fits both tenancies
  const texts = sealedTexts(fieldseal)
  await withFieldseal(dataSource, { fieldseal, ...options.registration }).initialize()
  return {
    dataSource,
    fieldseal,
    kms,
    wire,
    repository: (entity) => dataSource.getRepository(entity),
    async close() {
      await fieldseal.close()
      await dataSource.destroy()
      if (options.sendsPlaintext === true) return
      await using oracle = leakOracle({ taps: 'none' })
      for (const text of texts) oracle.canary(text)
      oracle.observe(wire.traffic(), 'sent')
      oracle.observe(wire.logged(), 'logged')
      expect(await oracle.hits()).toEqual([])
    },
  }
}
