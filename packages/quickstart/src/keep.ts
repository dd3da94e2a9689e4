import { copyFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import type { DataSource } from 'typeorm'
import type { Patient } from './stage.ts'

/** Encrypted columns of `patients` and their types, as the annotations declare them. */
const FIELDS = { email: 'string', name: 'string', born: 'day', diagnosis: 'string' } as const

/**
 * Writes what somebody needs to check every value with docs/spec alone: `tables.sql` (CREATE and INSERT), `fieldseal.key`
 * and `known.json` (what the application knows).
 */
export async function keep(
  folder: string,
  dataSource: DataSource,
  keyFile: string,
  patients: readonly Patient[],
): Promise<void> {
  const tables = [await tableAsSql(dataSource, 'patients'), await tableAsSql(dataSource, 'fieldseal_keys')]
  writeFileSync(path.join(folder, 'tables.sql'), tables.join('\n'))
  const kept = path.join(folder, 'fieldseal.key')
  if (path.resolve(keyFile) !== path.resolve(kept)) copyFileSync(keyFile, kept)
  const fields = Object.entries(FIELDS).map(([column, type]) => ({ column, field: column, type }))
  const values = patients.flatMap((patient) =>
    fields.map(({ column }) => ({
      table: 'patients',
      key: { id: patient.id },
      tenant: patient.clinicId,
      column,
      value: patient[column as keyof typeof FIELDS],
    })),
  )
  const model = {
    table: 'patients',
    model: 'patients',
    tenantColumn: 'clinic_id',
    keyColumns: [{ column: 'id', kind: 'uuid' }],
    fields,
  }
  writeFileSync(
    path.join(folder, 'known.json'),
    `${JSON.stringify({ app: 'quickstart', models: [model], values }, null, 2)}\n`,
  )
}

async function tableAsSql(dataSource: DataSource, table: string): Promise<string> {
  const columns: { readonly column_name: string; readonly data_type: string }[] = await dataSource.query(
    'SELECT column_name, data_type FROM information_schema.columns WHERE table_name = $1 ORDER BY ordinal_position',
    [table],
  )
  const rows: Record<string, unknown>[] = await dataSource.query(`SELECT * FROM "${table}"`)
  const create = `CREATE TABLE "${table}" (\n${columns.map((c) => `  "${c.column_name}" ${c.data_type}`).join(',\n')}\n);`
  const names = columns.map((c) => `"${c.column_name}"`).join(', ')
  const inserts = rows.map(
    (row) =>
      `INSERT INTO "${table}" (${names}) VALUES (${columns.map((c) => literal(row[c.column_name])).join(', ')});`,
  )
  return `${[create, ...inserts].join('\n')}\n`
}

function literal(value: unknown): string {
  if (value === null || value === undefined) return 'NULL'
  if (value instanceof Uint8Array) return `'\\x${Buffer.from(value).toString('hex')}'`
  if (typeof value === 'number' || typeof value === 'bigint') return String(value)
  return `'${(typeof value === 'string' ? value : JSON.stringify(value)).replaceAll("'", "''")}'`
}
