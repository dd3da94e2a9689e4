import { createFieldseal, type Fieldseal, type FieldsealOptions } from '@fieldseal/core'
import type { RecordCipher } from '@fieldseal/core/adapter'
import { DataSource, type DataSourceOptions, type ObjectLiteral, type Repository } from 'typeorm'
import { expect } from 'vitest'
import { typeormKeyStore, withFieldseal, type WithFieldsealOptions } from '../../src/index.ts'
import { fakeKms, type FakeKms } from '@fieldseal/testkit'
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

/** Texts that an application of this process sealed or looked for: none may be seen outside of it, in any test. */
const SHORTEST = 8
/** Searching them takes time for each; a test that writes thousands would be searched for all day. */
const MOST = 40

/** Notes what core is asked to seal and to look for. */
function noteTexts(fieldseal: object): ReadonlySet<string> {
  const texts = new Set<string>()
  const internals = Reflect.get(fieldseal, Symbol.for('@fieldseal/core:internals')) as { cipher: RecordCipher }
  const { cipher } = internals
  const note = (value: unknown) => {
    if (typeof value === 'string' && value.length >= SHORTEST && texts.size < MOST) texts.add(value)
  }
  internals.cipher = {
    ...cipher,
    seal(rows, ...rest) {
      for (const { cells } of rows) for (const { field, value } of cells) if (field.state === 'encrypted') note(value)
      return cipher.seal(rows, ...rest)
    },
    tokens(terms, ...rest) {
      for (const { index, values } of terms) if (index.fields[0]?.state === 'encrypted') values.forEach(note)
      return cipher.tokens(terms, ...rest)
    },
  }
  return texts
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
  const texts = noteTexts(fieldseal)
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
      const leaks = options.sendsPlaintext === true ? [] : [...texts].flatMap((text) => wire.find(text))
      expect(leaks, 'plaintext of encrypted columns on the wire or in the log').toEqual([])
    },
  }
}
