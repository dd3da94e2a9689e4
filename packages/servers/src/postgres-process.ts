import { type ChildProcess, spawn, type SpawnOptions } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { chownSync, cpSync, mkdtempSync, openSync, closeSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import pg from 'pg'
import { freePort } from './free-port.ts'
import { becomesReady, lastLines, START_DEADLINE_MS, startWatchdog } from './postmaster.ts'
import { serverAccount, type Account } from './server-account.ts'

const START_ATTEMPTS = 3

/** Nothing here outlives the process, so durability would only cost time. */
const SETTINGS = {
  fsync: 'off',
  synchronous_commit: 'off',
  full_page_writes: 'off',
  wal_level: 'minimal',
  max_wal_senders: '0',
  max_connections: '200',
  jit: 'off',
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
}

export interface PostgresProcess {
  readonly url: string
  /** As `pg_ctl restart -m` does it: `fast` ends sessions, `immediate` is a crash with recovery. The url stays. */
  restart(mode: 'fast' | 'immediate'): Promise<void>
  stop(): Promise<void>
}

/**
 * Makes a cluster in a new temporary folder and starts a server on it, on a free port of 127.0.0.1.
 *
 * @param options further settings of the server
 */
export async function startPostgresProcess(
  binaries: string,
  options: Readonly<Record<string, string>> = {},
): Promise<PostgresProcess> {
  const account = serverAccount()
  const folder = mkdtempSync(path.join(tmpdir(), 'fieldseal-postgres-'))
  const watchdog = startWatchdog(folder)
  try {
    if (account) chownSync(folder, account.uid, account.gid)
    const bin = account ? readableBinaries(binaries, folder) : binaries
    const password = randomBytes(18).toString('base64url')
    await initialise(bin, folder, password, account)
    const settings = { ...SETTINGS, ...options }
    let running = await start({ bin, folder, account, settings })
    const url = `postgres://postgres:${password}@127.0.0.1:${running.port}/postgres`
    await answers(url, folder)
    return {
      url,
      async restart(mode) {
        const { child, port } = running
        child.ref()
        const exit = once(child, 'exit')
        child.kill(mode === 'fast' ? 'SIGINT' : 'SIGQUIT')
        await exit
        running = await start({ bin, folder, account, settings }, port)
        await answers(url, folder)
      },
      stop: () => watchdog.end(),
    }
  } catch (error) {
    await watchdog.end()
    throw error
  }
}

async function initialise(bin: string, folder: string, password: string, account?: Account): Promise<void> {
  const passwordFile = path.join(folder, 'password')
  writeFileSync(passwordFile, password)
  if (account) chownSync(passwordFile, account.uid, account.gid)
  const options = ['--pgdata', path.join(folder, 'data'), '--username', 'postgres', '--pwfile', passwordFile]
  options.push('--auth', 'scram-sha-256', '--encoding', 'UTF8', '--no-locale', '--no-sync')
  const log = openSync(path.join(folder, 'initdb.log'), 'a')
  try {
    const child = spawn(path.join(bin, 'initdb'), options, environment(folder, log, account))
    const [code] = (await once(child, 'exit')) as [number | null]
    if (code !== 0) throw new Error(`initdb failed: ${lastLines(path.join(folder, 'initdb.log'))}`)
  } finally {
    closeSync(log)
  }
}

interface Cluster {
  readonly bin: string
  readonly folder: string
  readonly account: Account | undefined
  readonly settings: Readonly<Record<string, string>>
}

async function start(
  { bin, folder, account, settings }: Cluster,
  samePort?: number,
): Promise<{ readonly child: ChildProcess; readonly port: number }> {
  const data = path.join(folder, 'data')
  for (let attempt = 1; ; attempt++) {
    // Another process may take the port before the server does: then the server exits, and the next is tried.
    const port = samePort ?? (await freePort())
    const flags = Object.entries({ ...settings, port }).flatMap(([name, value]) => ['-c', `${name}=${value}`])
    const log = openSync(path.join(folder, 'postgres.log'), 'a')
    const child = spawn(path.join(bin, 'postgres'), ['-D', data, ...flags], {
      ...environment(folder, log, account),
      detached: true, // its own group: Ctrl-C reaches us, and the watchdog ends it
    })
    closeSync(log)
    child.unref()
    if (await becomesReady(child, data)) return { child, port }
    if (attempt === START_ATTEMPTS) throw new Error(`postgres exited: ${lastLines(path.join(folder, 'postgres.log'))}`)
  }
}

async function answers(url: string, folder: string): Promise<void> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: START_DEADLINE_MS })
  try {
    await client.connect()
  } catch (error) {
    const log = lastLines(path.join(folder, 'postgres.log'))
    throw new Error(`postgres started, but does not answer: ${log}`, { cause: error })
  } finally {
    await client.end()
  }
}

function environment(folder: string, log: number, account?: Account): SpawnOptions {
  // Without the caller's PG… variables, which would point the server elsewhere.
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(PG|LC_|LANG)/.test(name)))
  return { cwd: folder, env, stdio: ['ignore', log, log], ...account }
}

/** The binaries, copied into the folder when they stand below one that only root may enter. */
function readableBinaries(binaries: string, folder: string): string {
  const real = path.resolve(binaries)
  for (let parent = real; parent !== path.dirname(parent); parent = path.dirname(parent)) {
    const OTHERS_ENTER = 0o001
    if ((statSync(parent).mode & OTHERS_ENTER) !== 0) continue
    const copy = path.join(folder, 'postgresql')
    cpSync(path.dirname(real), copy, { recursive: true, verbatimSymlinks: true })
    return path.join(copy, path.basename(real))
  }
  return binaries
}
