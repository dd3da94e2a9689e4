/**
 * A stored cell as the driver returned it: text, bytes, or bytes that came back from TypeORM's result cache, which keeps
 * rows as JSON.
 */
export function storedBytes(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || value instanceof Uint8Array) return value
  const { type, data } = value as { readonly type?: unknown; readonly data?: unknown }
  return type === 'Buffer' && Array.isArray(data) ? Buffer.from(data as number[]) : value // what Buffer.toJSON() makes
}
