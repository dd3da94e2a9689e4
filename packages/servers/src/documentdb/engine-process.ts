import { execFile, spawn, type SpawnOptions } from 'node:child_process'
import { chownSync, closeSync, mkdirSync, mkdtempSync, openSync, readdirSync, rmSync, statSync } from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'
import type { PoolConfig } from 'pg'
import { POSTGRES_ID } from './debian-packages.ts'
import { becomesReady, lastLines, startWatchdog } from '../postmaster.ts'

const run = promisify(execFile)

/** Below the unpacked root: the cluster to copy, and a folder per server. Short, for the path of a socket is. */
const TEMPLATE = '/template'
export const INSTANCES = '/run'
const LEFT_BEHIND_AFTER_MS = 24 * 60 * 60 * 1000
const BIN = '/usr/lib/postgresql/18/bin'

const LIBRARIES = 'pg_cron,pg_documentdb_core,pg_documentdb,pg_documentdb_extended_rum'

/**
 * Options of the server.
 *
 * @param sockets where its Unix socket stands; the engine makes collections over a connection of its own
 */
export function serverOptions(sockets: string): string[] {
  return flags({
    unix_socket_directories: sockets,
    'documentdb.localhost_connection_string': `host=${sockets}`,
    shared_preload_libraries: LIBRARIES,
    'cron.database_name': 'postgres',
    'cron.use_background_workers': 'on',
    'documentdb_core.enableCollation': 'on',
    // Found out soon, and then repeated by the gateway.
    deadlock_timeout: '50ms',
    // Nothing here outlives the process, so durability would only cost time.
    fsync: 'off',
    synchronous_commit: 'off',
    full_page_writes: 'off',
    jit: 'off',
    max_connections: '200',
  })
}

/** @returns command and arguments that run a program with another root folder, as its user `postgres` */
function inside(root: string, command: readonly string[]): [string, string[]] {
  return ['chroot', ['--userspec=postgres', root, ...command]]
}

/** Makes the cluster that every server starts from, below the root. */
export async function makeTemplate(root: string): Promise<void> {
  makeFolder(path.join(root, TEMPLATE))
  const data = `${TEMPLATE}/data`
  const options = ['-D', data, '-U', 'postgres', '-A', 'trust', '--no-sync', '-E', 'UTF8', '--locale=C.UTF-8']
  await run(...inside(root, [`${BIN}/initdb`, ...options]))
  const settings = flags({ shared_preload_libraries: LIBRARIES, fsync: 'off' })
  const [command, parameters] = inside(root, [`${BIN}/postgres`, '--single', '-D', data, ...settings, 'postgres'])
  const script = 'echo "CREATE EXTENSION documentdb CASCADE" | exec "$@"'
  await run('/bin/sh', ['-c', script, 'create', command, ...parameters])
}

/** A running engine, to be spoken to by PostgreSQL's protocol. */
export interface Engine {
  readonly connection: PoolConfig
  stop(): Promise<void>
}

/**
 * Starts the engine on a copy of the template, as an unprivileged user, reachable only through a socket in a folder
 * that only root and that user may enter.
 */
export async function startEngineProcess(root: string): Promise<Engine> {
  removeLeftovers(path.join(root, INSTANCES))
  const folder = mkdtempSync(path.join(root, INSTANCES, `${process.pid}-`))
  const watchdog = startWatchdog(folder)
  try {
    makeFolder(folder)
    const data = path.join(folder, 'data')
    await run('cp', ['--archive', '--reflink=auto', path.join(root, TEMPLATE, 'data'), data])
    const own = `/${path.relative(root, folder)}`
    const options = ['-D', `${own}/data`, ...flags({ listen_addresses: '' }), ...serverOptions(own)]
    const logFile = path.join(folder, 'engine.log')
    const log = openSync(logFile, 'a')
    // In its own group: Ctrl-C reaches us, and the watchdog ends it.
    const stdio = { stdio: ['ignore', log, log], detached: true } satisfies SpawnOptions
    const child = spawn(...inside(root, [`${BIN}/postgres`, ...options]), stdio)
    closeSync(log)
    child.unref()
    if (!(await becomesReady(child, data))) throw new Error(`exited: ${lastLines(logFile)}`)
    return { connection: { host: folder, user: 'postgres', database: 'postgres' }, stop: () => watchdog.end() }
  } catch (error) {
    await watchdog.end()
    throw error
  }
}

/** A machine that was switched off has left the folders of its servers. */
function removeLeftovers(instances: string): void {
  for (const name of readdirSync(instances)) {
    const folder = path.join(instances, name)
    const stats = statSync(folder, { throwIfNoEntry: false })
    if (stats && Date.now() - stats.mtimeMs > LEFT_BEHIND_AFTER_MS) rmSync(folder, { recursive: true, force: true })
  }
}

function makeFolder(folder: string): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  chownSync(folder, POSTGRES_ID, POSTGRES_ID)
}

function flags(settings: Readonly<Record<string, string>>): string[] {
  return Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])
}
