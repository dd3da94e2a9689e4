import type { MigratorOptions } from '@fieldseal/migrate'

/** What `fieldseal.config.ts` exports by default: the same object that `createMigrator()` takes. */
export interface FieldsealConfig extends MigratorOptions {
  /** Connects what the sources need, before the first verb: `() => dataSource.initialize()`. */
  readonly open?: () => Promise<unknown>
  /** Disconnects it, after the last. */
  readonly close?: () => Promise<unknown>
}

/** Gives the configuration its type; changes nothing. It may be a function, for what must be awaited first. */
export function defineConfig<const C extends FieldsealConfig | (() => FieldsealConfig | Promise<FieldsealConfig>)>(
  config: C,
): C {
  return config
}
