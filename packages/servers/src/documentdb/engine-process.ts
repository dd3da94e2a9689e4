import { execFile, spawn } from 'node:child_process'
import { chownSync, closeSync, mkdirSync, mkdtempSync, openSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import type { PoolConfig } from 'pg'
import { becomesReady, lastLines, startWatchdog } from '../postmaster.ts'

const run = promisify(execFile)

/** Where the server's folder stands for the server itself. */
const HOME = '/var/lib/postgresql'
const BIN = '/usr/lib/postgresql/18/bin'
/** Of user and group `postgres` in the unpacked root. */
const ID = 999

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

/** In namespaces of its own: what is mounted here is unmounted when the last process of the server ends. */
const ENTER = `
  mount -t proc proc "$1/proc" && mount --bind /dev "$1/dev" && mount --bind "$2" "$1${HOME}" || exit 1
  root=$1; shift 2; exec chroot --userspec=postgres "$root" "$@"`

function enter(root: string, folder: string, command: readonly string[]): [string, string[]] {
  return ['unshare', ['--mount', '--', '/bin/sh', '-c', ENTER, 'enter', root, folder, ...command]]
}

/** Makes the cluster that every server starts from. @param folder gets it, as `data` */
export async function makeTemplate(root: string, folder: string): Promise<void> {
  prepare(folder)
  const options = ['-D', `${HOME}/data`, '-U', 'postgres', '-A', 'trust', '--no-sync', '-E', 'UTF8']
  await run(...enter(root, folder, [`${BIN}/initdb`, ...options, '--locale=C.UTF-8']))
  const settings = flags({ shared_preload_libraries: LIBRARIES, fsync: 'off' })
  const sql = 'CREATE EXTENSION documentdb CASCADE'
  await run('/bin/sh', [
    '-c',
    'statement=$1; shift; printf "%s\\n" "$statement" | "$@"',
    'create',
    sql,
    ...enter(root, folder, [`${BIN}/postgres`, '--single', '-D', `${HOME}/data`, ...settings, 'postgres']).flat(),
  ])
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
export async function startEngineProcess(root: string, template: string): Promise<Engine> {
  const folder = mkdtempSync(path.join(tmpdir(), 'fieldseal-documentdb-'))
  const watchdog = startWatchdog(folder)
  try {
    prepare(folder)
    await run('cp', ['--archive', '--reflink=auto', path.join(template, 'data'), folder])
    const logFile = path.join(folder, 'engine.log')
    const log = openSync(logFile, 'a')
    const command = enter(root, folder, [
      `${BIN}/postgres`,
      '-D',
      `${HOME}/data`,
      ...flags({ listen_addresses: '' }),
      ...serverOptions(`${HOME}/run`),
    ])
    // In its own group: Ctrl-C reaches us, and the watchdog ends it.
    const child = spawn(...command, { stdio: ['ignore', log, log], detached: true })
    closeSync(log)
    child.unref()
    if (!(await becomesReady(child, path.join(folder, 'data')))) throw new Error(`exited: ${lastLines(logFile)}`)
    const connection = { host: path.join(folder, 'run'), user: 'postgres', database: 'postgres' }
    return { connection, stop: () => watchdog.end() }
  } catch (error) {
    await watchdog.end()
    throw error
  }
}

function prepare(folder: string): void {
  mkdirSync(path.join(folder, 'run'), { recursive: true })
  chownSync(folder, ID, ID)
  chownSync(path.join(folder, 'run'), ID, ID)
}

function flags(settings: Readonly<Record<string, string>>): string[] {
  return Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])
}
