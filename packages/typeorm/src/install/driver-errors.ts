import type { ModelRegistry } from '../entity-map/model-registry.ts'

/** A connection of node-postgres, as far as it is overridden. */
interface Client {
  query(...args: unknown[]): unknown
}

// Texts in which PostgreSQL echoes a row, a key or a statement's values.
const ECHOES = ['detail', 'where', 'internalQuery'] as const
const SHIELDED = Symbol.for('@fieldseal/typeorm:shielded')

/**
 * Takes from the errors of one connection what echoes a row: a CHECK constraint that refuses plaintext would otherwise
 * print it. Errors about tables without encrypted columns stay whole.
 */
export function shieldErrors(connection: unknown, models: () => ModelRegistry): void {
  if (typeof connection !== 'object' || connection === null || SHIELDED in connection || !isClient(connection)) return
  Object.defineProperty(connection, SHIELDED, { value: true })
  const query = connection.query.bind(connection)
  connection.query = (...args) => {
    const result = query(...args)
    if (!(result instanceof Promise)) return result
    return result.catch((error: unknown) => {
      removeEchoes(error, models())
      throw error
    })
  }
}

function removeEchoes(error: unknown, registry: ModelRegistry): void {
  if (!(error instanceof Error) || registry.models.length === 0) return
  const table: unknown = Reflect.get(error, 'table')
  if (typeof table === 'string' && !registry.tableNames.has(table.toLowerCase())) return
  for (const name of ECHOES) if (Reflect.get(error, name) !== undefined) Reflect.set(error, name, undefined)
}

function isClient(connection: object): connection is Client {
  return 'query' in connection && typeof connection.query === 'function'
}
