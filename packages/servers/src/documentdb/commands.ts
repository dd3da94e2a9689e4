import type { Document } from 'bson'
import { decode } from './bson-elements.ts'
import type { Command } from './command.ts'
import type { CursorFunction } from './cursors.ts'
import { callEngine, type EngineClient, type EnginePool } from './engine-client.ts'
import { CommandError } from './errors.ts'
import { explain } from './explain.ts'
import type { Handle, Run } from './handle.ts'
import { MAX_MESSAGE_BYTES } from './wire.ts'

const ok = (): Document => ({ ok: 1 })

async function callReply(client: EngineClient | EnginePool, sql: string, values: readonly unknown[]): Promise<Buffer> {
  const [reply] = await callEngine<readonly [Buffer]>(client, sql, values)
  return reply
}

/** A command whose reply a function of the engine makes, from the database and the command. */
function byFunction(fn: string): (run: Run) => Promise<Buffer> {
  const sql = `SELECT ${fn}($1, $2::bytea::documentdb_core.bson)::bytea`
  return ({ command, pool, transaction }) => callReply(transaction ?? pool, sql, [command.database, command.body])
}

/** The same, for a command that is not about one database. */
function byBody(fn: string): Handle {
  const sql = `SELECT ${fn}($1::bytea::documentdb_core.bson)::bytea`
  return ({ command, pool }) => callReply(pool, sql, [command.body])
}

function write(fn: 'insert' | 'update' | 'delete' | 'find_and_modify'): Handle {
  const sql = `SELECT p_result::bytea FROM documentdb_api.${fn}($1, $2::bytea::documentdb_core.bson)`
  return ({ command, pool, transaction }) => callReply(transaction ?? pool, sql, [command.database, command.body])
}

function cursor(fn: CursorFunction): Handle {
  return ({ command, cursors, transaction }) => cursors.open(fn, command.database, command.body, transaction)
}

/** Drivers take it for a router: then they send transactions, and expect no other member of a replica set. */
function hello(): Document {
  return {
    helloOk: true,
    isWritablePrimary: true,
    ismaster: true,
    msg: 'isdbgrid',
    maxBsonObjectSize: 16_777_216,
    maxMessageSizeBytes: MAX_MESSAGE_BYTES,
    maxWriteBatchSize: 25_000,
    localTime: new Date(),
    logicalSessionTimeoutMinutes: 30,
    connectionId: 1,
    minWireVersion: 0,
    maxWireVersion: 25,
    readOnly: false,
    ok: 1,
  }
}

const createIndexes: Handle = async ({ command, pool, transaction, alone }) => {
  const reply = await alone(`${command.database}.${nameIn(command)}`, () =>
    callReply(
      transaction ?? pool,
      // Without `true`, a collection that has documents would be refused.
      `SELECT documentdb_api_internal.create_indexes_non_concurrently($1, $2::bytea::documentdb_core.bson, true)::bytea`,
      [command.database, command.body],
    ),
  )
  const { raw } = decode(reply) as { raw?: Record<string, Document> }
  return { ...(raw && Object.values(raw)[0]), ok: 1 }
}

const dropIndexesNow = byFunction('documentdb_api_internal.drop_indexes_non_concurrently')
const dropIndexes: Handle = async (run) => {
  const { nIndexesWas } = decode(await dropIndexesNow(run))
  return { nIndexesWas: Number(nIndexesWas), ok: 1 }
}

const collMod: Handle = ({ command, pool, transaction }) =>
  callReply(transaction ?? pool, 'SELECT documentdb_api.coll_mod($1, $2, $3::bytea::documentdb_core.bson)::bytea', [
    command.database,
    nameIn(command),
    command.body,
  ])

const drop: Handle = async ({ command, pool, transaction }) => {
  const collection = nameIn(command)
  const sql = 'SELECT documentdb_api.drop_collection($1, $2)'
  const [dropped] = await callEngine<readonly [boolean]>(transaction ?? pool, sql, [command.database, collection])
  if (!dropped) throw new CommandError(26, 'ns not found')
  return { ns: `${command.database}.${collection}`, ok: 1 }
}

const dropDatabase: Handle = async ({ command, pool }) => {
  await callEngine(pool, 'SELECT documentdb_api.drop_database($1)', [command.database])
  return { dropped: command.database, ok: 1 }
}

const getMore: Handle = ({ command, cursors }) => cursors.getMore(asId(command.get('getMore')), command.body)

const killCursors: Handle = async ({ command, cursors }) => {
  const ids = (command.get('cursors') as unknown[]).map((id) => asId(id))
  const killed = await Promise.all(ids.map((id) => cursors.kill(id)))
  return {
    cursorsKilled: ids.filter((_, i) => killed[i]),
    cursorsNotFound: ids.filter((_, i) => !killed[i]),
    cursorsAlive: [],
    cursorsUnknown: [],
    ok: 1,
  }
}

const endSessions: Handle = async ({ command, sessions }) => {
  const ended = command.get('endSessions') as { id: { toString(encoding: 'hex'): string } }[]
  await Promise.all(ended.map(({ id }) => sessions.abort(id.toString('hex'))))
  return ok()
}

/** Every command we answer, by its name in lower case. */
const HANDLES: Readonly<Record<string, Handle>> = {
  hello,
  ismaster: hello,
  ping: ok,
  refreshsessions: ok,
  endsessions: endSessions,
  buildinfo: ({ version }) => ({
    version: '8.0.0',
    versionArray: [8, 0, 0, 0],
    bits: 64,
    maxBsonObjectSize: 16_777_216,
    modules: [],
    documentdb: version,
    ok: 1,
  }),
  getparameter: () => ({ featureCompatibilityVersion: { version: '8.0' }, ok: 1 }),
  connectionstatus: () => ({ authInfo: { authenticatedUsers: [], authenticatedUserRoles: [] }, ok: 1 }),
  insert: write('insert'),
  update: write('update'),
  delete: write('delete'),
  findandmodify: write('find_and_modify'),
  find: cursor('find'),
  aggregate: cursor('aggregate'),
  listcollections: cursor('list_collections'),
  listindexes: cursor('list_indexes'),
  getmore: getMore,
  killcursors: killCursors,
  count: byFunction('documentdb_api.count_query'),
  distinct: byFunction('documentdb_api.distinct_query'),
  explain,
  createindexes: createIndexes,
  dropindexes: dropIndexes,
  create: byFunction('documentdb_api.create_collection_view'),
  drop,
  dropdatabase: dropDatabase,
  validate: byFunction('documentdb_api.validate'),
  collmod: collMod,
  renamecollection: byBody('documentdb_api.rename_collection'),
  listdatabases: byBody('documentdb_api.list_databases'),
  collstats: ({ command, pool }) =>
    callReply(pool, 'SELECT documentdb_api.coll_stats($1, $2)::bytea', [command.database, nameIn(command)]),
  dbstats: ({ command, pool }) => callReply(pool, 'SELECT documentdb_api.db_stats($1)::bytea', [command.database]),
  committransaction: async ({ command, sessions }) => {
    await sessions.commit(command)
    return ok()
  },
  aborttransaction: async ({ command, sessions }) => {
    await sessions.abort(command.session)
    return ok()
  },
}

/** @throws CommandError 59 when no command has that name */
export function handleFor(name: string): Handle {
  const key = name.toLowerCase()
  const handle = Object.hasOwn(HANDLES, key) ? HANDLES[key] : undefined
  if (!handle) throw new CommandError(59, `no such command: '${name}'`)
  return handle
}

function nameIn(command: Command): string {
  const name = command.get(command.name)
  if (typeof name !== 'string') throw new CommandError(2, `${command.name} expects the name of a collection`)
  return name
}

function asId(value: unknown): bigint {
  return typeof value === 'bigint' ? value : BigInt(Number(value))
}
