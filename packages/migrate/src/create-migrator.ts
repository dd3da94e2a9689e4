import type { KeyObject } from 'node:crypto'
import { attach, type Fieldseal, FieldsealError, type RecordSource } from '@fieldseal/core/adapter'
import type { Pace } from './engine/pace.ts'
import type { Surroundings, What } from './engine/target.ts'
import { checkedPolicy, type Policy } from './policy.ts'
import type { Report } from './report/report.ts'
import type { RotatedCmk } from '@fieldseal/core/adapter'
import { rebind, type RebindOptions } from './verbs/rebind.ts'
import { reEncrypt, type ReEncryptOptions } from './verbs/re-encrypt.ts'
import { rotateCmk } from './verbs/rotate-cmk.ts'
import { type KekRotation, rotateKek, type RotateKekOptions } from './verbs/rotate-kek.ts'
import { rewrap, type RewrapOptions } from './verbs/rewrap.ts'
import { verify } from './verbs/verify.ts'

export interface MigratorOptions {
  readonly fieldseal: Fieldseal<never> | Fieldseal
  /** Where the encrypted rows are: `typeormSource(dataSource)`, `mongooseSource(connection)`. */
  readonly sources: readonly RecordSource[]
  readonly policy?: Policy
  /** Ed25519 private key that signs the reports of shreds. @defaultValue none: reports are labelled unsigned */
  readonly signingKey?: KeyObject
}

/** Rotation, migration and shredding, as functions. Every verb may be interrupted at any moment and run again. */
export interface Migrator {
  /** Wraps the DEKs of stored rows by the newest KEK. Needed before an old one can be retired. */
  rewrap(options?: RewrapOptions): Promise<Report>
  /** Opens every value and compares every token. */
  verify(options?: What & Pace): Promise<Report>
  /** Gives a keyspace a new KEK, or all keyspaces that the policy says are due. */
  rotateKek(options?: RotateKekOptions): Promise<KekRotation>
  /** Wraps the KEKs of a tenant by the newest version of its CMKs. */
  rotateCmk(options?: { readonly tenant?: string }): Promise<RotatedCmk>
  /** Gives a new DEK to every value that a leaked KEK could open. */
  reEncrypt(options: ReEncryptOptions): Promise<Report>
  /** Binds values to their rows after a table was copied or renumbered. */
  rebind(options?: RebindOptions): Promise<Report>
}

/** @throws FieldsealError ERR_CONFIG_INVALID naming the option */
export function createMigrator({ fieldseal, sources, ...options }: MigratorOptions): Migrator {
  if (!Array.isArray(sources) || sources.length === 0)
    throw new FieldsealError('ERR_CONFIG_INVALID', {
      field: 'sources',
      hint: 'say where the rows are: sources: [typeormSource(dataSource)]',
    })
  const host = attach(fieldseal, { name: 'migrate', ormVersion: '0' })
  const policy = checkedPolicy(options.policy)
  if (options.signingKey !== undefined && options.signingKey.asymmetricKeyType !== 'ed25519')
    throw new FieldsealError('ERR_CONFIG_INVALID', { field: 'signingKey', reason: 'an Ed25519 private key' })
  const surroundings: Surroundings = { fieldseal, sources, host, policy, signingKey: options.signingKey }
  return {
    rewrap: (options) => rewrap(surroundings, options),
    verify: (options) => verify(surroundings, options),
    rotateKek: (options) => rotateKek(surroundings, options),
    rotateCmk: (options) => rotateCmk(surroundings, options),
    reEncrypt: (options) => reEncrypt(surroundings, options),
    rebind: (options) => rebind(surroundings, options),
  }
}
