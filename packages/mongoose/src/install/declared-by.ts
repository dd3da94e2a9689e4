import type { Schema } from 'mongoose'

interface SchemaParts {
  readonly paths: Readonly<Record<string, object>>
  readonly discriminators?: Readonly<Record<string, Schema>>
  readonly childSchemas: readonly { readonly schema: Schema }[]
}

/**
 * All that declares the documents of a schema, at any depth: another list when it gains, loses or replaces a path or a
 * discriminator. A path that is declared anew gets another object.
 */
export function declaredBy(schema: Schema, above: ReadonlySet<Schema> = new Set()): readonly object[] {
  if (above.has(schema)) return []
  const within = new Set([...above, schema])
  const { paths, discriminators = {}, childSchemas } = schema as unknown as SchemaParts
  const below = [...Object.values(discriminators), ...childSchemas.map((child) => child.schema)]
  return [schema, ...Object.values(paths), ...below.flatMap((each) => declaredBy(each, within))]
}
