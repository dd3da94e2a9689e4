import { envelopeToText, TEXT_PREFIX, type Envelope } from '@fieldseal/core/adapter'
import type { EntityMetadata } from 'typeorm'
import { CheckMetadata } from 'typeorm/metadata/CheckMetadata.js'
import type { SealedColumn } from './entity-model.ts'

/** Magic and version of format v1: how every envelope begins. */
const HEAD = Uint8Array.of(0xf8, 0x01)
// Two bytes fill two base64url characters and four bits of the third, which then holds two bits of the suite: 0x00–0x3f give E.
const TEXT_HEAD = envelopeToText(Uint8Array.of(...HEAD, 0x01) as Envelope).slice(0, TEXT_PREFIX.length + 3)

/** Adds a CHECK constraint, so that SQL that goes round this package cannot store plaintext in the column. */
export function addTripwire({ envelope: column, storage }: SealedColumn, metadata: EntityMetadata): void {
  const name = metadata.dataSource.driver.escape(column.databaseName)
  const expression = `${name} IS NULL OR ${startsLikeEnvelope(name, storage)}`
  const check = new CheckMetadata({ entityMetadata: metadata, args: { target: metadata.target, expression } })
  metadata.checks.push(check.build(metadata.dataSource.namingStrategy))
}

/** True in SQL where a column holds an envelope. */
export function startsLikeEnvelope(name: string, storage: SealedColumn['storage']): string {
  return storage === 'text' ? startsLikeText(name) : startsLikeBytes(name)
}

/** True in SQL for a text column that holds an envelope. */
export function startsLikeText(name: string): string {
  return `substr(${name}, 1, ${TEXT_HEAD.length}) = '${TEXT_HEAD}'`
}

/** True in SQL for a bytea column that holds an envelope. */
export function startsLikeBytes(name: string): string {
  return `substring(${name} from 1 for ${HEAD.length}) = '\\x${Buffer.from(HEAD).toString('hex')}'::bytea`
}
