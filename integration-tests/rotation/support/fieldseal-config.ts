import type { MigratorOptions } from '@fieldseal/migrate'

/** What the deployed build says; tests deploy several, one after the other. */
export const deployed: { config: MigratorOptions | undefined } = { config: undefined }

export function config(): MigratorOptions {
  if (deployed.config === undefined) throw new Error('nothing is deployed')
  return deployed.config
}
