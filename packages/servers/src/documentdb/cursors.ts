import type { EngineClient, EnginePool } from './engine-client.ts'
import { callEngine } from './engine-client.ts'
import { CommandError } from './errors.ts'

/** As MongoDB: a cursor that nobody asks is closed after ten minutes. */
const IDLE_MS = 600_000

interface Cursor {
  readonly database: string
  readonly continuation: Buffer
  /** The client that the rest of the result can be read on; undefined when any can. */
  readonly client: EngineClient | undefined
  /** The cursor holds its client for itself; otherwise a transaction does. */
  readonly ownsClient: boolean
  readonly timer: NodeJS.Timeout
}

export type CursorFunction = 'find' | 'aggregate' | 'list_collections' | 'list_indexes'

export interface Cursors {
  /** Runs a query and keeps what is needed for its next page. @returns the reply of the first page */
  open(fn: CursorFunction, database: string, command: Buffer, transaction?: EngineClient): Promise<Buffer>
  /** @throws CommandError 43 when the cursor is not open */
  getMore(id: bigint, command: Buffer): Promise<Buffer>
  /** @returns whether it was open */
  kill(id: bigint): Promise<boolean>
  /** Forgets the cursors of a transaction that ends. */
  forget(client: EngineClient): void
  close(): Promise<void>
}

export function createCursors(pool: EnginePool): Cursors {
  const cursors = new Map<bigint, Cursor>()

  function keep(id: bigint, cursor: Omit<Cursor, 'timer'>): void {
    const timer = setTimeout(() => void kill(id), IDLE_MS)
    timer.unref()
    cursors.set(id, { ...cursor, timer })
  }

  async function kill(id: bigint): Promise<boolean> {
    const cursor = cursors.get(id)
    if (!cursor) return false
    cursors.delete(id)
    clearTimeout(cursor.timer)
    if (cursor.client && cursor.ownsClient) {
      const { client } = cursor
      await client.query('CLOSE ALL').then(
        () => client.release(),
        () => client.release(true),
      )
    }
    return true
  }

  return {
    async open(fn, database, command, transaction) {
      const client = transaction ?? (await pool.connect())
      let kept = false
      try {
        const [page, continuation, pinned, id] = await callEngine<readonly [Buffer, Buffer | null, boolean, bigint]>(
          client,
          `SELECT cursorpage::bytea, continuation::bytea, persistconnection, cursorid
           FROM documentdb_api.${fn}_cursor_first_page($1, $2::bytea::documentdb_core.bson)`,
          [database, command],
        )
        if (continuation) {
          kept = pinned && !transaction
          const needed = pinned || transaction ? client : undefined
          keep(id, { database, continuation, client: needed, ownsClient: kept })
        }
        return page
      } finally {
        if (!transaction && !kept) client.release()
      }
    },
    async getMore(id, command) {
      const cursor = cursors.get(id)
      if (!cursor) throw new CommandError(43, `cursor id ${id} not found`)
      clearTimeout(cursor.timer)
      const [page, continuation] = await callEngine<readonly [Buffer, Buffer | null]>(
        cursor.client ?? pool,
        `SELECT cursorpage::bytea, continuation::bytea FROM documentdb_api.cursor_get_more(
           $1, $2::bytea::documentdb_core.bson, $3::bytea::documentdb_core.bson)`,
        [cursor.database, command, cursor.continuation],
      ).catch(async (error: unknown) => {
        await kill(id)
        throw error
      })
      if (continuation) keep(id, { ...cursor, continuation })
      else await kill(id)
      return page
    },
    kill,
    forget(client) {
      for (const [id, cursor] of cursors) {
        if (cursor.client !== client) continue
        clearTimeout(cursor.timer)
        cursors.delete(id)
      }
    },
    async close() {
      await Promise.all([...cursors.keys()].map((id) => kill(id)))
    },
  }
}
