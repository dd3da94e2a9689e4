import { FieldsealError } from '@fieldseal/core/adapter'
import type { QueryRunner } from 'typeorm'
import type { IndexMetadata } from 'typeorm/metadata/IndexMetadata.js'
import { configError } from '../entity-map/column-rules.ts'
import { quotedTable, turnsInPlace, type EntityModel, type SealedColumn } from '../entity-map/entity-model.ts'
import { startsLikeEnvelope } from '../entity-map/tripwire.ts'
import { installationOf } from '../install/installation.ts'

export interface EncryptColumnOptions {
  /** Id of the model: its table, or what `@EncryptedModel({ id })` says. */
  readonly model: string
  /** Name of the encrypted column, id of the field, or its property. */
  readonly field: string
  /** Builds indexes without locking the table; the migration then needs `transaction = false`. @defaultValue false */
  readonly concurrently?: boolean
  /** Type of a column that turned in place before, e.g. `varchar(255)`; `down` gives it back. @defaultValue it stays text */
  readonly was?: string
}

/** The body of a migration. */
export interface EncryptColumnMigration {
  up(runner: QueryRunner): Promise<void>
  down(runner: QueryRunner): Promise<void>
}

const TYPE_NAME = /^[a-z][a-z ]*(\(\d+\))?$/

/**
 * Prepares a table for a field that goes from plaintext to encrypted, where `migration:generate` would write
 * `DROP COLUMN`: adds the column of envelopes beside the old one, or makes the old one text where it turns in place; adds
 * the columns and indexes of its tokens; lets the old column be empty. Nothing that is stored changes.
 *
 * The entity must be annotated already, with `state: 'plaintext'`. What is there already is left alone.
 *
 * @throws FieldsealError ERR_CONFIG_INVALID when the real table does not fit, ERR_ROWS_REMAIN from `down` while values are
 * encrypted
 */
export function encryptColumnMigration(options: EncryptColumnOptions): EncryptColumnMigration {
  const { was } = options
  if (was !== undefined && !TYPE_NAME.test(was))
    throw new FieldsealError('ERR_ARGUMENT_INVALID', {
      field: 'was',
      reason: "the name of a type, e.g. 'varchar(255)'",
    })
  return {
    up: async (runner) => {
      const table = await tableIn(runner, options)
      await addColumns(table)
      await addIndexes(table, options.concurrently === true)
      await addTripwire(table)
    },
    down: async (runner) => {
      const table = await tableIn(runner, options)
      await assertNothingEncrypted(table)
      await removeColumns(table, was)
    },
  }
}

/** One field and its real table, seen by the runner of the migration. */
interface FieldTable {
  readonly runner: QueryRunner
  readonly model: EntityModel
  readonly sealed: SealedColumn
  /** Quoted, with schema. */
  readonly name: string
  /** Names of types of the columns that are there. */
  readonly types: ReadonlyMap<string, string>
  escape(name: string): string
}

async function tableIn(runner: QueryRunner, { model: id, field }: EncryptColumnOptions): Promise<FieldTable> {
  const { dataSource } = runner
  const { models } = installationOf(dataSource).models()
  const model = models.find(({ map, metadata }) => map.id === id && metadata.parentEntityMetadata === undefined)
  const sealed = model?.columns.find(
    ({ field: one, column }) => one.path === field || one.id === field || column.propertyPath === field,
  )
  if (model === undefined || sealed === undefined)
    throw new FieldsealError('ERR_ARGUMENT_INVALID', { model: id, field, reason: 'no such encrypted field' })
  const escape = (name: string) => dataSource.driver.escape(name)
  const name = quotedTable(model.metadata)
  const rows = (await runner.query(
    'SELECT attname, format_type(atttypid, NULL) AS type FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped',
    [name],
  )) as { attname: string; type: string }[] // as selected
  if (rows.length === 0) throw configError(model.metadata, sealed.envelope.databaseName, 'the table does not exist')
  return { runner, model, sealed, name, escape, types: new Map(rows.map(({ attname, type }) => [attname, type])) }
}

async function addColumns({ runner, model, sealed, name, types, escape }: FieldTable): Promise<void> {
  const { envelope, plain, storage, slots } = sealed
  const add = async (column: string, type: string) => {
    if (!types.has(column)) await runner.query(`ALTER TABLE ${name} ADD COLUMN ${escape(column)} ${type}`)
  }
  const column = escape(envelope.databaseName)
  const found = types.get(envelope.databaseName)
  const expected = storage === 'text' ? 'text' : 'bytea'
  if (found !== undefined && found !== expected) {
    if (!turnsInPlace(sealed) || found !== 'character varying')
      throw configError(
        model.metadata,
        envelope.databaseName,
        `the column is ${found}, and envelopes are ${expected}`,
        'give the encrypted column a name of its own, and the old one under plaintextIn',
      )
    await runner.query(`ALTER TABLE ${name} ALTER COLUMN ${column} TYPE text`) // of varchar: no row is rewritten
  }
  await add(envelope.databaseName, storage === 'text' ? 'text COLLATE "C"' : 'bytea')
  for (const slot of slots === undefined ? [] : [slots.odd, slots.even]) await add(slot.databaseName, 'bytea')
  if (plain !== undefined && !turnsInPlace(sealed))
    await runner.query(`ALTER TABLE ${name} ALTER COLUMN ${escape(plain.databaseName)} DROP NOT NULL`)
}

async function addIndexes(table: FieldTable, concurrently: boolean): Promise<void> {
  const { runner, name, escape } = table
  for (const { name: index = '', isUnique, columns, where } of tokenIndexes(table)) {
    const names = columns.map(({ databaseName }) => escape(databaseName)).join(', ')
    await runner.query(
      `CREATE ${isUnique ? 'UNIQUE ' : ''}INDEX ${concurrently ? 'CONCURRENTLY ' : ''}IF NOT EXISTS ${escape(index)} ON ${name} (${names})${where ? ` WHERE ${where}` : ''}`,
    )
  }
}

function tokenIndexes({ model, sealed: { slots } }: FieldTable): readonly IndexMetadata[] {
  if (slots === undefined) return []
  return model.metadata.indices.filter(({ columns }) => columns.includes(slots.odd) || columns.includes(slots.even))
}

/** A column of its own holds nothing but envelopes from the beginning. */
async function addTripwire({ runner, model, sealed, name, escape }: FieldTable): Promise<void> {
  if (turnsInPlace(sealed)) return
  const column = escape(sealed.envelope.databaseName)
  const check = model.metadata.checks.find(({ expression }) => expression.startsWith(`${column} IS NULL OR `))
  if (check?.name === undefined) return
  const known = (await runner.query('SELECT 1 FROM pg_constraint WHERE conrelid = to_regclass($1) AND conname = $2', [
    name,
    check.name,
  ])) as unknown[]
  if (known.length > 0) return
  await runner.query(`ALTER TABLE ${name} ADD CONSTRAINT ${escape(check.name)} CHECK (${check.expression}) NOT VALID`)
  await runner.query(`ALTER TABLE ${name} VALIDATE CONSTRAINT ${escape(check.name)}`)
}

async function assertNothingEncrypted({ runner, model, sealed, name, types, escape }: FieldTable): Promise<void> {
  const { envelope, storage, field } = sealed
  if (!types.has(envelope.databaseName)) return
  const column = escape(envelope.databaseName)
  const [row] = (await runner.query(
    `SELECT EXISTS (SELECT 1 FROM ${name} WHERE ${column} IS NOT NULL AND ${startsLikeEnvelope(column, storage)}) AS found`,
  )) as { found: boolean }[]
  if (row?.found !== true) return
  throw new FieldsealError('ERR_ROWS_REMAIN', {
    model: model.map.id,
    field: field.id,
    reason: 'values are encrypted',
    hint: `decrypt them first: fieldseal decrypt --field ${model.map.id}.${field.id}`,
  })
}

async function removeColumns({ runner, sealed, name, escape }: FieldTable, was: string | undefined): Promise<void> {
  const { envelope, slots } = sealed
  const drop = (column: string) => runner.query(`ALTER TABLE ${name} DROP COLUMN IF EXISTS ${escape(column)}`)
  for (const slot of slots === undefined ? [] : [slots.odd, slots.even]) await drop(slot.databaseName)
  if (!turnsInPlace(sealed)) await drop(envelope.databaseName)
  else if (was !== undefined)
    await runner.query(`ALTER TABLE ${name} ALTER COLUMN ${escape(envelope.databaseName)} TYPE ${was}`)
}
