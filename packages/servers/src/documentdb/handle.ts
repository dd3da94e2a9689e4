import type { Document } from 'bson'
import type { Command } from './command.ts'
import type { Cursors } from './cursors.ts'
import type { EngineClient, EnginePool } from './engine-client.ts'
import type { OneAtATime } from './one-at-a-time.ts'
import type { Sessions } from './sessions.ts'

/** What a command runs with. */
export interface Run {
  readonly command: Command
  readonly pool: EnginePool
  readonly cursors: Cursors
  readonly sessions: Sessions
  /** Indexes of one collection are made one after the other: two at once would wait for each other. */
  readonly alone: OneAtATime
  /** The version of the engine. */
  readonly version: string
  /** The client of the transaction that the command belongs to. */
  readonly transaction: EngineClient | undefined
}

/** @returns the reply, as the engine encoded it or to be encoded */
export type Handle = (run: Run) => Promise<Buffer | Document> | Document
