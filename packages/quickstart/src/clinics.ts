import path from 'node:path'
import { PGlite } from '@electric-sql/pglite'
import { createFieldseal, type Fieldseal, type TenantKeys } from '@fieldseal/core'
import { createKeyFile, localKms } from '@fieldseal/kms-local'
import { PgliteStream } from '@fieldseal/pglite'
import { typeormKeyStore, withFieldseal } from '@fieldseal/typeorm'
import { DataSource } from 'typeorm'
import { Patient } from './patient.ts'

/** Shortened for the demo, so that a revocation can be waited for: the defaults are minutes. */
export const CACHE = { refreshAfterMs: 300, validForMs: 1_000, maxStaleMs: 2_000, callDeadlineMs: 500 }

export interface Clinics {
  readonly dataSource: DataSource
  readonly fieldseal: Fieldseal<'multi'>
  readonly keyFile: string
  /** What the registry says of each clinic; the demo changes it, as an administrator would. */
  readonly registry: Map<string, TenantKeys>
  readonly cmk: (name: string) => TenantKeys['cmks'][number]
  /** All bytes that went between the application and the database. */
  readonly traffic: () => Buffer
  readonly kmsCalls: () => number
  close(): Promise<void>
}

/** PostgreSQL in this process, two clinics, each with a CMK of its own. */
export async function openClinics(folder: string): Promise<Clinics> {
  const keyFile = path.join(folder, 'fieldseal.key')
  createKeyFile(keyFile, ['clinic-a', 'clinic-a-new', 'clinic-b'])
  const kms = localKms({ file: keyFile })
  const registry = new Map<string, TenantKeys>([
    ['clinic-a', { cmks: [kms.cmk('clinic-a')] }],
    ['clinic-b', { cmks: [kms.cmk('clinic-b')] }],
  ])
  const chunks: Buffer[] = []
  const database = await PGlite.create()
  const dataSource = new DataSource({
    type: 'postgres',
    username: 'postgres',
    database: 'postgres',
    poolSize: 1,
    uuidExtension: 'pgcrypto',
    installExtensions: false,
    entities: [Patient],
    synchronize: true,
    extra: { stream: () => new PgliteStream(database, (chunk) => chunks.push(Buffer.from(chunk))) },
  })
  const fieldseal = createFieldseal({
    app: 'quickstart',
    tenancy: 'multi',
    keyStore: typeormKeyStore(dataSource.options),
    cache: CACHE,
    keys: async (tenant) => registry.get(tenant) ?? null,
  })
  let kmsCalls = 0
  fieldseal.on('kms.call', ({ operation }) => {
    if (operation === 'wrap' || operation === 'unwrap' || operation === 'generate') kmsCalls++
  })
  await withFieldseal(dataSource, { fieldseal }).initialize()
  return {
    dataSource,
    fieldseal,
    keyFile,
    registry,
    cmk: (name) => kms.cmk(name),
    traffic: () => Buffer.concat(chunks),
    kmsCalls: () => kmsCalls,
    async close() {
      await fieldseal.close()
      await dataSource.destroy()
      await database.close()
    },
  }
}
