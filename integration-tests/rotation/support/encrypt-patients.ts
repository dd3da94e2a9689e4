import { createMigrator } from '@fieldseal/migrate'
import { config } from './fieldseal-config.ts'

const FIELDS = ['name', 'email', 'born'] as const

/** Run by migrate-mongo while state `migrating` is deployed. */
export async function up(): Promise<void> {
  for (const field of FIELDS)
    await createMigrator(config()).backfill({ model: 'patients', field, rowsPerSecond: 2_000 })
}

/** Run by migrate-mongo while state `plaintext` is deployed. */
export async function down(): Promise<void> {
  for (const field of FIELDS) await createMigrator(config()).decrypt({ model: 'patients', field })
}
