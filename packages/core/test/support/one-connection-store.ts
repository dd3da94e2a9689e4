import type { KeyStore } from '../../src/keys/key-store.ts'
import { arrayKeyStore, type ArrayKeyStore } from './array-key-store.ts'

/** Holds the only connection; with an open transaction, nothing else gets through. */
export interface Connection {
  readonly inTransaction: boolean
}

/**
 * A key store on an engine with one connection: while a transaction is open, its plain methods wait for the end of it.
 * Whoever holds the connection reads through `joining`, and may insert only outside of any transaction.
 */
export function oneConnectionStore() {
  const inner: ArrayKeyStore = arrayKeyStore()
  let open: { readonly ended: Promise<void>; readonly end: () => void } | undefined
  const plain: string[] = []
  const joined: string[] = []

  async function turn(name: string): Promise<void> {
    plain.push(name)
    while (open !== undefined) await open.ended
  }

  const store: KeyStore = {
    ...inner,
    async find(ids) {
      await turn('find')
      return inner.find(ids)
    },
    async load(refs) {
      await turn('load')
      return inner.load(refs)
    },
    async insert(record) {
      await turn('insert')
      return inner.insert(record)
    },
    async update(record) {
      await turn('update')
      return inner.update(record)
    },
    joining(via) {
      const { inTransaction } = via as Connection
      return {
        find: (ids) => (joined.push('find'), inner.find(ids)),
        load: (refs) => (joined.push('load'), inner.load(refs)),
        ...(inTransaction ? {} : { insert: (record) => (joined.push('insert'), inner.insert(record)) }),
      }
    },
  }

  /** Runs `work` holding the connection in a transaction. */
  async function transaction<R>(work: (via: Connection) => Promise<R>): Promise<R> {
    const { promise: ended, resolve: end } = Promise.withResolvers<void>()
    open = { ended, end }
    try {
      return await work({ inTransaction: true })
    } finally {
      open = undefined
      end()
    }
  }

  return { store, inner, plain, joined, transaction }
}
