import type { Command } from './command.ts'
import type { EngineClient, EnginePool } from './engine-client.ts'
import { CommandError, NO_SUCH_TRANSACTION } from './errors.ts'

/** As MongoDB's default `transactionLifetimeLimitSeconds`. */
const LIFETIME_MS = 60_000

/**
 * A write that meets another transaction's open one must fail, not wait: a client that holds both would wait for
 * itself. Long enough for the locks of single writes to pass.
 */
const LOCK_TIMEOUT_MS = 100

interface Transaction {
  readonly number: bigint
  readonly client: EngineClient
  readonly timer: NodeJS.Timeout
}

export interface Sessions {
  /** The client of the transaction that a command belongs to; undefined for a command outside of one. */
  clientOf(command: Command): Promise<EngineClient | undefined>
  commit(command: Command): Promise<void>
  /** Ends the session's transaction, if it has one, without its writes. */
  abort(session: string | undefined): Promise<void>
  close(): Promise<void>
}

/** @param onEnd called before a transaction's client is given back: cursors on it are gone */
export function createSessions(pool: EnginePool, onEnd: (client: EngineClient) => void): Sessions {
  const open = new Map<string, Transaction>()
  /** A driver that missed the answer to a commit sends it again. */
  const committed = new Map<string, bigint>()

  async function begin(session: string, number: bigint): Promise<EngineClient> {
    await abort(session)
    committed.delete(session)
    const client = await pool.connect()
    const timer = setTimeout(() => void abort(session), LIFETIME_MS)
    timer.unref()
    open.set(session, { number, client, timer })
    await client.query(`BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL lock_timeout = ${LOCK_TIMEOUT_MS}`)
    return client
  }

  async function end(session: string, verb: 'COMMIT' | 'ROLLBACK'): Promise<void> {
    const transaction = open.get(session)
    if (!transaction) return
    open.delete(session)
    clearTimeout(transaction.timer)
    onEnd(transaction.client)
    try {
      await transaction.client.query(verb)
      transaction.client.release()
    } catch (error) {
      transaction.client.release(true)
      if (verb === 'COMMIT') throw error
    }
  }

  async function abort(session: string | undefined): Promise<void> {
    if (session !== undefined) await end(session, 'ROLLBACK')
  }

  return {
    async clientOf({ session, transaction }) {
      if (!transaction || session === undefined) return undefined
      if (transaction.starts) return await begin(session, transaction.number)
      const current = open.get(session)
      if (current?.number === transaction.number) return current.client
      throw noTransaction(transaction.number)
    },
    async commit({ session, transaction }) {
      if (!transaction || session === undefined) throw new CommandError(2, 'commitTransaction outside a transaction')
      if (open.get(session)?.number === transaction.number) {
        await end(session, 'COMMIT')
        committed.set(session, transaction.number)
      } else if (committed.get(session) !== transaction.number) throw noTransaction(transaction.number)
    },
    abort,
    async close() {
      await Promise.all([...open.keys()].map((session) => abort(session)))
    },
  }
}

function noTransaction(number: bigint): CommandError {
  return new CommandError(NO_SUCH_TRANSACTION, `Transaction with { txnNumber: ${number} } has been aborted.`)
}
