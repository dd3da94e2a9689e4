import type { CheckpointStore } from '@fieldseal/core/adapter'
import type { Installation } from '../install/installation.ts'
import { DEFAULT_CHECKPOINT_TABLE, quoted } from '../key-store/key-table.ts'
import { onPrimary } from './table.ts'

/** Job checkpoints beside the data, in the table that the migration makes. */
export function createCheckpoints(installation: Installation): CheckpointStore {
  const table = quoted(DEFAULT_CHECKPOINT_TABLE)
  return {
    async load(job) {
      const [row] = await onPrimary(installation, (query) =>
        query(`SELECT version, state FROM ${table} WHERE job = $1`, [job]),
      )
      return row === undefined ? undefined : { version: Number(row['version']), state: row['state'] as Buffer } // bytea
    },
    async save(job, version, state) {
      const bytes = Buffer.from(state.buffer, state.byteOffset, state.byteLength)
      const statement =
        version === 1
          ? `INSERT INTO ${table} (job, version, state) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING job`
          : `UPDATE ${table} SET version = $2, state = $3 WHERE job = $1 AND version = $2::bigint - 1 RETURNING job`
      const rows = await onPrimary(installation, (query) => query(statement, [job, version, bytes]))
      return rows.length === 1 ? 'saved' : 'changed'
    },
  }
}
