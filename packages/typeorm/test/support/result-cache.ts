import type { QueryResultCache } from 'typeorm/cache/QueryResultCache.js'

/** A cache of query results in this process; `stored` is what it was given, by its keys. */
export function resultCache() {
  const stored = new Map<string, string>()
  const cache: Partial<QueryResultCache> = {
    connect: async () => undefined,
    disconnect: async () => undefined,
    synchronize: async () => undefined,
    getFromCache: async ({ query = '' }) =>
      stored.has(query) ? { query, result: stored.get(query), duration: 60_000, time: Date.now() } : undefined,
    storeInCache: async ({ query = '', result }) => void stored.set(query, String(result)),
    isExpired: () => false,
  }
  const options = { type: 'database', provider: () => cache as QueryResultCache } as const // what TypeORM calls of it
  return { stored, options }
}
