import type { Schema } from 'mongoose'

interface SchemaParts {
  readonly paths: Readonly<Record<string, unknown>>
  readonly discriminators?: Readonly<Record<string, Schema>>
  readonly childSchemas: readonly { readonly schema: Schema }[]
}

/** Changes when a schema gains or loses paths or discriminators, at any depth. */
export function schemaSignature(schema: Schema, above: ReadonlySet<Schema> = new Set()): string {
  if (above.has(schema)) return ''
  const within = new Set([...above, schema])
  const { paths, discriminators = {}, childSchemas } = schema as unknown as SchemaParts
  const below = [...Object.values(discriminators), ...childSchemas.map((child) => child.schema)]
  return `${Object.keys(paths).length}(${below.map((each) => schemaSignature(each, within)).join(',')})`
}
