import { FieldsealError } from '@fieldseal/core/adapter'
import type { Connection } from 'mongoose'
import type { Doc } from '../bson/documents.ts'
import type { CollectionState, GuardMode } from '../install/collection-state.ts'
import { checkCommand } from './check-command.ts'

// Invariant: registered symbols, so that two copies of this package share one guard.
const WATCHED = Symbol.for('@fieldseal/mongoose:watched')
const OPENING = Symbol.for('@fieldseal/mongoose:opening')

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
interface Client {
  readonly options?: { readonly monitorCommands?: boolean }
  on(event: 'commandStarted', listener: (event: CommandStarted) => void): void
  [WATCHED]?: Set<Watched>
}
interface OpenableConnection {
  openUri(uri: string, options?: { readonly monitorCommands?: boolean }): Promise<unknown>
  [OPENING]?: true
}

/**
 * Puts the guard before everything that a connection sends. A connection that is not open yet refuses to open without
 * `monitorCommands: true`.
 *
 * @throws FieldsealError ERR_CONFIG_INVALID for an open connection that does not report its commands
 */
export function watchClient(connection: Connection, state: CollectionState, mode: GuardMode): void {
  if (mode === 'off') return
  if (clientOf(connection) !== undefined) return assertGuarded(connection, state, mode)
  const opening = connection as unknown as OpenableConnection // a Connection, past its overloads
  connection.on('connected', () => assertGuarded(connection, state, mode))
  if (opening[OPENING] === true) return
  const openUri = opening.openUri.bind(connection)
  Object.defineProperty(opening, OPENING, { value: true })
  opening.openUri = async (uri, options) => {
    if (options?.monitorCommands !== true) throw notMonitored()
    return openUri(uri, options)
  }
}

/** @throws FieldsealError ERR_CONFIG_INVALID when the connection does not report its commands */
export function assertGuarded(connection: Connection, state: CollectionState, mode: GuardMode): void {
  if (mode === 'off') return
  const client = clientOf(connection)
  if (client === undefined) return // nothing can be sent yet
  if (client.options?.monitorCommands !== true) throw notMonitored()
  const watched = client[WATCHED] ?? startWatching(client)
  for (const each of watched) if (each.state === state) return
  watched.add({ connection, state, mode })
}

function startWatching(client: Client): Set<Watched> {
  const watched = new Set<Watched>()
  Object.defineProperty(client, WATCHED, { value: watched })
  // The driver calls this before it writes to the socket; an error thrown here ends the command.
  client.on('commandStarted', ({ commandName, databaseName, command }) => {
    let hit: Watched | undefined
    const violation = checkCommand(commandName, command, (collection) => {
      hit = [...watched].find(({ connection, state }) => state.name === collection && connection.name === databaseName)
      return hit?.state.model().root
    })
    if (violation === undefined || hit === undefined) return
    const details = { model: hit.state.model().map.id, field: violation.path, operation: commandName }
    if (hit.mode === 'audit') hit.state.host.events.emit('plaintext.seen', details)
    else throw new FieldsealError('ERR_PLAINTEXT_BLOCKED', details)
  })
  return watched
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
