import { FieldsealError } from '@fieldseal/core/adapter'
import type { Connection } from 'mongoose'
import type { Doc } from '../bson/documents.ts'
import type { CollectionState, GuardMode } from '../install/collection-state.ts'
import { checkCommand } from './check-command.ts'

// Invariant: registered symbols, so that two copies of this package share one guard.
const WATCH = Symbol.for('@fieldseal/mongoose:watch')
const OPENING = Symbol.for('@fieldseal/mongoose:opening')

const EVENT = 'commandStarted'
/** The driver takes the option from the connection string too. */
const IN_URI = /[?&]monitorCommands=true(&|$)/

/** A collection that the guard of a client knows. */
interface Watched {
  readonly connection: Connection
  readonly state: CollectionState
  readonly mode: GuardMode
}
interface CommandStarted {
  readonly commandName: string
  readonly databaseName: string
  readonly command: Doc
}
/** What the guard of one client knows. */
interface Watch {
  readonly collections: Set<Watched>
  readonly listener: (event: CommandStarted) => void
}
interface Client {
  readonly options?: { readonly monitorCommands?: boolean }
  on(event: typeof EVENT, listener: Watch['listener']): void
  listeners(event: typeof EVENT): unknown[]
  [WATCH]?: Watch
}
interface OpenableConnection {
  openUri(uri: string, options?: { readonly monitorCommands?: boolean }): Promise<unknown>
  [OPENING]?: (() => void)[]
}

/**
 * Puts the guard before everything that a connection sends. A connection that is not open yet refuses to open without
 * `monitorCommands: true`. What was declared last stands: a model that was deleted and made again has another collection
 * object, and the deleted one may still be at work.
 *
 * @throws FieldsealError ERR_CONFIG_INVALID for an open connection that does not report its commands
 */
export function watchClient(connection: Connection, state: CollectionState, mode: GuardMode): void {
  if (mode === 'off') return
  const guard = () => {
    const watch = watchOf(connection)
    if (watch === undefined) return
    const before = watchedIn(watch, connection, state)
    if (before !== undefined) watch.collections.delete(before)
    watch.collections.add({ connection, state, mode })
  }
  guard()
  // Connections to other databases of one client are opened with the one that they were made from.
  const { otherDbs = [] } = connection as unknown as { readonly otherDbs?: readonly Connection[] }
  for (const each of [connection, ...otherDbs]) whenOpened(each, guard)
}

/** Opens a connection only if its client reports commands, and then runs the task before anything is sent. */
function whenOpened(connection: Connection, task: () => void): void {
  const opening = connection as unknown as OpenableConnection // a Connection, past its overloads
  const waiting = opening[OPENING]
  if (waiting !== undefined) return void waiting.push(task)
  const tasks = [task]
  Object.defineProperty(opening, OPENING, { value: tasks })
  // One listener, however many models there are.
  connection.on('connected', () => {
    for (const each of tasks) each()
  })
  const openUri = opening.openUri.bind(connection)
  opening.openUri = async (uri, options) => {
    if (options?.monitorCommands !== true && !IN_URI.test(uri)) throw notMonitored()
    return openUri(uri, options)
  }
}

/** @throws FieldsealError ERR_CONFIG_INVALID when the connection does not report its commands */
export function assertGuarded(connection: Connection, state: CollectionState, mode: GuardMode): void {
  if (mode === 'off') return
  const watch = watchOf(connection)
  if (watch !== undefined && watchedIn(watch, connection, state) === undefined)
    watch.collections.add({ connection, state, mode })
}

/** The guard of a connection; undefined while nothing can be sent yet. */
function watchOf(connection: Connection): Watch | undefined {
  const client = clientOf(connection)
  if (client === undefined) return undefined
  if (client.options?.monitorCommands !== true) throw notMonitored()
  const watch = client[WATCH] ?? startWatching(client)
  // An application that removes all listeners of a client removes ours.
  if (!client.listeners(EVENT).includes(watch.listener)) client.on(EVENT, watch.listener)
  return watch
}

/** Whoever is known under the name of a collection. */
function watchedIn({ collections }: Watch, connection: Connection, { name }: CollectionState): Watched | undefined {
  for (const each of collections) if (each.connection === connection && each.state.name === name) return each
  return undefined
}

function startWatching(client: Client): Watch {
  const collections = new Set<Watched>()
  // The driver calls this before it writes to the socket; an error thrown here ends the command.
  const listener = ({ commandName, databaseName, command }: CommandStarted) => {
    const find = (name: string, database = databaseName) =>
      [...collections].find(({ connection, state }) => state.name === name && connection.name === database)
    const violation = checkCommand(commandName, command, (...names) => find(...names)?.state.model().root)
    const hit = violation && find(violation.collection, violation.database)
    if (violation === undefined || hit === undefined) return
    const details = { model: hit.state.model().map.id, field: violation.path, operation: commandName }
    if (hit.mode === 'audit') hit.state.host.events.emit('plaintext.seen', details)
    else throw new FieldsealError('ERR_PLAINTEXT_BLOCKED', details)
  }
  const watch: Watch = { collections, listener }
  Object.defineProperty(client, WATCH, { value: watch })
  return watch
}

function clientOf(connection: Connection): Client | undefined {
  const { client } = connection as unknown as { readonly client?: Client | null }
  return client ?? undefined
}

function notMonitored(): FieldsealError {
  return new FieldsealError('ERR_CONFIG_INVALID', {
    field: 'monitorCommands',
    reason: 'the wire guard sees commands only where the driver reports them',
    hint: "connect with { monitorCommands: true }, or give the plugin guard: 'off'",
  })
}
