import type { MigrationInterface, QueryRunner } from 'typeorm'
import { createTables, DEFAULT_CHECKPOINT_TABLE, DEFAULT_KEY_TABLE, quoted } from './key-table.ts'

/** Makes the tables of key records and of job checkpoints: `migrations: [CreateFieldsealTables1764000000000]`. */
export class CreateFieldsealTables1764000000000 implements MigrationInterface {
  // Said aloud: a minifier would take the class's name, and with it the migration's time stamp.
  readonly name = 'CreateFieldsealTables1764000000000'

  async up(runner: QueryRunner): Promise<void> {
    for (const statement of createTables()) await runner.query(statement)
  }

  /** @throws Error while there are key records: dropping them loses everything that is encrypted under them */
  async down(runner: QueryRunner): Promise<void> {
    const [row] = (await runner.query(`SELECT count(*)::int AS records FROM ${quoted(DEFAULT_KEY_TABLE)}`)) as {
      records: number
    }[]
    if (row !== undefined && row.records > 0) {
      throw new Error(
        `${DEFAULT_KEY_TABLE} holds ${row.records} key records: without them no encrypted value can be read again. Drop the table by hand if that is meant`,
      )
    }
    await runner.query(`DROP TABLE ${quoted(DEFAULT_KEY_TABLE)}`)
    await runner.query(`DROP TABLE ${quoted(DEFAULT_CHECKPOINT_TABLE)}`)
  }
}
