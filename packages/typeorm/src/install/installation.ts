import type { AdapterHost, RecordMap, RecordWriter } from '@fieldseal/core/adapter'
import type { DataSource, QueryRunner } from 'typeorm'
import type { ModelRegistry } from '../entity-map/model-registry.ts'
import type { RowsAtHand } from '../write-path/rows-at-hand.ts'
import type { Builders } from './builders.ts'
import type { Conversions } from './driver.ts'

/** What `withFieldseal` has put into one DataSource. */
export interface Installation {
  readonly host: AdapterHost
  readonly dataSource: DataSource
  readonly conversions: Conversions
  /** Empty until the DataSource has built its metadata. */
  readonly models: () => ModelRegistry
  /** The pool has one connection: whoever waits for a second one waits for ever. */
  readonly oneConnection: boolean
  readonly builders: Builders
  readonly writer: RecordWriter
  /** Hands a row to core's queue of lazy rewraps, which outlives the transaction at hand. */
  readonly offerRewrap: AdapterHost['rewraps']['offer']
  /** SQL types of the key columns of models whose tables were asked for them. */
  readonly keyTypes: WeakMap<RecordMap, readonly string[]>
  /** Rows that a `save` at work on this runner has read or written. */
  readonly rowsAtHand: WeakMap<QueryRunner, RowsAtHand>
}

// Invariant: a registered symbol, so that two copies of this package see one installation.
const INSTALLATION = Symbol.for('@fieldseal/typeorm:installation')

export function attachInstallation(dataSource: DataSource, installation: Installation): void {
  Object.defineProperty(dataSource, INSTALLATION, { value: installation })
}

/** The installation of a DataSource, if it was given to `withFieldseal`. */
export function findInstallation(dataSource: DataSource): Installation | undefined {
  return Reflect.get(dataSource, INSTALLATION) as Installation | undefined // only attachInstallation() sets it
}

/** The installation of a DataSource whose query builders are ours. */
export function installationOf(dataSource: DataSource): Installation {
  const installation = findInstallation(dataSource)
  if (installation === undefined) throw new TypeError('the DataSource was not passed to withFieldseal')
  return installation
}

/** What core hands to `KeyStore.joining`: the runner that holds the only connection; nothing where there are more. */
export function viaOf(installation: Installation, runner: QueryRunner | undefined): QueryRunner | undefined {
  return installation.oneConnection ? runner : undefined
}
