import { type ChildProcess, spawn } from 'node:child_process'
import { chownSync, closeSync, existsSync, mkdtempSync, openSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { freePort } from './free-port.ts'
import { lastLines, START_DEADLINE_MS, startWatchdog } from './postmaster.ts'
import { serverAccount } from './server-account.ts'

export interface PgbouncerOptions {
  /** When a server connection goes back into the pool: with its transaction, or with its client. */
  readonly mode: 'transaction' | 'session'
  /** Connections to the server for each database. @defaultValue 20, as PgBouncer has it */
  readonly poolSize?: number
  /** Further settings, as in `pgbouncer.ini`. */
  readonly settings?: Readonly<Record<string, string>>
}

export interface Pgbouncer {
  /** Leads to the same database as the url of the server, past the pooler. Other databases are reached by their names. */
  readonly url: string
  stop(): Promise<void>
}

const PID_FILE = 'pgbouncer.pid'

/** The installed PgBouncer. @returns undefined where the machine has none */
export function pgbouncerBinary(searchPath = process.env['PATH'] ?? ''): string | undefined {
  // Debian's stands where users who are not root do not look.
  return [...searchPath.split(path.delimiter), '/usr/sbin', '/usr/local/sbin']
    .filter((folder) => folder !== '')
    .map((folder) => path.join(folder, 'pgbouncer'))
    .find((file) => existsSync(file))
}

/**
 * Starts a PgBouncer on a free port of 127.0.0.1, in front of a PostgreSQL; gone with its files when this process ends.
 *
 * @param serverUrl with the user and the password that clients log in with too
 * @throws Error when there is none, or it does not answer
 */
export async function startPgbouncer(serverUrl: string, options: PgbouncerOptions): Promise<Pgbouncer> {
  const binary = pgbouncerBinary()
  if (binary === undefined) throw new Error('there is no pgbouncer on this machine')
  const account = serverAccount()
  const folder = mkdtempSync(path.join(tmpdir(), 'fieldseal-pgbouncer-'))
  const watchdog = startWatchdog(folder, PID_FILE)
  try {
    if (account) chownSync(folder, account.uid, account.gid)
    const write = (name: string, text: string) => {
      const file = path.join(folder, name)
      writeFileSync(file, text, { mode: 0o600 })
      if (account) chownSync(file, account.uid, account.gid)
      return file
    }
    const url = new URL(serverUrl)
    const [user, password] = [url.username, url.password].map(decodeURIComponent)
    const authFile = write('users.txt', `${inQuotes(user)} ${inQuotes(password)}\n`)
    const port = await freePort()
    const ini = write('pgbouncer.ini', iniOf(url, { folder, authFile, port }, options))
    const log = openSync(path.join(folder, 'pgbouncer.log'), 'a')
    const child = spawn(binary, [ini], { cwd: folder, stdio: ['ignore', log, log], detached: true, ...account })
    child.unref()
    closeSync(log)
    url.hostname = '127.0.0.1'
    url.port = String(port)
    await answers(url.href, child, folder)
    return { url: url.href, stop: () => watchdog.end() }
  } catch (error) {
    await watchdog.end()
    throw error
  }
}

function iniOf(
  server: URL,
  at: { readonly folder: string; readonly authFile: string; readonly port: number },
  { mode, poolSize = 20, settings = {} }: PgbouncerOptions,
): string {
  const lines = {
    listen_addr: '127.0.0.1',
    listen_port: at.port,
    unix_socket_dir: '',
    auth_type: 'scram-sha-256',
    auth_file: at.authFile,
    pidfile: path.join(at.folder, PID_FILE),
    pool_mode: mode,
    default_pool_size: poolSize,
    ...settings,
  }
  const host = `* = host=${server.hostname} port=${server.port || 5432}`
  const text = Object.entries(lines).map(([name, value]) => `${name} = ${value}`)
  return ['[databases]', host, '[pgbouncer]', ...text, ''].join('\n')
}

function inQuotes(text = ''): string {
  return `"${text.replaceAll('"', '""')}"`
}

async function answers(url: string, child: ChildProcess, folder: string): Promise<void> {
  for (const deadline = Date.now() + START_DEADLINE_MS; ; await sleep(20)) {
    const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: START_DEADLINE_MS })
    try {
      await client.connect()
      return
    } catch (error) {
      const isStarting = Reflect.get(Object(error), 'code') === 'ECONNREFUSED' && child.exitCode === null
      if (isStarting && Date.now() < deadline) continue
      throw new Error(`pgbouncer does not answer: ${lastLines(path.join(folder, 'pgbouncer.log'))}`, { cause: error })
    } finally {
      await client.end()
    }
  }
}
