import type { QueryRunner } from 'typeorm'
import { carriesSealed, replaceResolved, resolveParameters } from '../carrier/resolve.ts'
import { shieldErrors } from './driver-errors.ts'
import { viaOf, type Installation } from './installation.ts'

type Query = (sql: string, parameters?: unknown[], structured?: boolean) => Promise<unknown>
type Stream = (sql: string, parameters?: unknown[], ...rest: unknown[]) => Promise<unknown>

/** The members of a runner that are overridden, as TypeORM calls them. */
interface RunnerMembers {
  query: Query
  stream: Stream
  connect(): Promise<unknown>
}

const DIRECT_QUERY = Symbol.for('@fieldseal/typeorm:direct-query')

/**
 * Overrides one runner: carriers among a statement's parameters are replaced by ciphertext and tokens before anybody
 * sees them, loggers and subscribers included.
 *
 * A statement without carriers takes no detour, so that the call sites in stack traces and the order of statements stay
 * as they are. Behind one that has to wait for keys the next ones wait for their turn.
 */
export function overrideRunner(runner: QueryRunner, installation: Installation): void {
  const members = runner as unknown as RunnerMembers // a QueryRunner; its types of parameters are wider
  const query: Query = members.query.bind(runner)
  const stream: Stream = members.stream.bind(runner)
  const connect = members.connect.bind(runner)
  // The key store reads through this while a statement waits for keys: it must not wait for that statement's turn.
  Reflect.set(runner, DIRECT_QUERY, query)
  const inTurn = createTurns()

  const send = <R>(parameters: unknown[] | undefined, start: (parameters?: unknown[]) => Promise<R>): Promise<R> => {
    const ready = carriesSealed(parameters) ? replaceResolved(parameters) : parameters
    if (carriesSealed(parameters) && ready === undefined) {
      return inTurn(async () => {
        const resolved = await resolveParameters(installation, parameters, viaOf(installation, runner))
        return () => start(resolved)
      })
    }
    return inTurn.waiting() ? inTurn(async () => () => start(ready)) : start(ready)
  }
  members.query = (sql, parameters, structured) => send(parameters, (sent) => query(sql, sent, structured))
  members.stream = (sql, parameters, ...rest) => send(parameters, (sent) => stream(sql, sent, ...rest))
  members.connect = async () => {
    const connection = await connect()
    shieldErrors(connection, installation.models)
    return connection
  }
}

/** A runner's own query, past the turn of statements that wait for keys. */
export function directQuery(runner: QueryRunner): Query {
  const direct = Reflect.get(runner, DIRECT_QUERY) as Query | undefined // only overrideRunner() sets it
  return direct ?? (runner.query.bind(runner) as Query) // as TypeORM calls it; of a DataSource that is not ours
}

interface Turns {
  /** Runs `prepare` when all before have started, then starts what it gives. */
  <R>(prepare: () => Promise<() => Promise<R>>): Promise<R>
  waiting(): boolean
}

function createTurns(): Turns {
  let last: Promise<void> | undefined
  const inTurn = async <R>(prepare: () => Promise<() => Promise<R>>): Promise<R> => {
    const before = last
    const { promise: started, resolve } = Promise.withResolvers<void>()
    last = started
    try {
      await before
      const start = await prepare()
      const running = start()
      return await settleTurn(running)
    } finally {
      settle()
    }

    function settleTurn(running: Promise<R>): Promise<R> {
      settle() // started, not finished: the connection keeps the order from here on
      return running
    }
    function settle(): void {
      resolve()
      if (last === started) last = undefined
    }
  }
  return Object.assign(inTurn, { waiting: () => last !== undefined })
}
