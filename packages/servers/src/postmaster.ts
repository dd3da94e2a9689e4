import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

export const START_DEADLINE_MS = 30_000

/**
 * Waits until a PostgreSQL accepts connections.
 *
 * @param data its data folder
 * @returns false when the server exited instead
 */
export async function becomesReady(child: ChildProcess, data: string): Promise<boolean> {
  let failure: Error | undefined
  child.once('error', (error) => (failure = error))
  const deadline = Date.now() + START_DEADLINE_MS
  while (Date.now() < deadline) {
    if (failure) throw failure
    if (child.exitCode !== null || child.signalCode !== null) return false
    // The server appends its state to this file; it is gone for a moment while it is rewritten.
    const file = path.join(data, 'postmaster.pid')
    if (existsSync(file) && /^ready\s*$/m.test(readFileSync(file, 'utf8'))) return true
    await sleep(10)
  }
  throw new Error(`postgres was not ready after ${START_DEADLINE_MS} ms`)
}

/**
 * A process that ends the server and removes its folder as soon as our end of its stdin closes: by `end`, or
 * because this process is gone, even if it was killed.
 *
 * @param pidFile written by the server, below its folder @defaultValue PostgreSQL's
 */
export function startWatchdog(folder: string, pidFile = path.join('data', 'postmaster.pid')): { end(): Promise<void> } {
  const script = `
    const { readFileSync, rmSync } = require('node:fs')
    const folder = ${JSON.stringify(folder)}
    const serverPid = () => { try { return parseInt(readFileSync(${JSON.stringify(path.join(folder, pidFile))}, 'utf8'), 10) } catch {} }
    const runs = (pid) => { try { process.kill(pid, 0); return true } catch { return false } }
    process.stdin.resume().on('close', () => {
      const pid = serverPid()
      if (pid > 0 && runs(pid)) process.kill(pid, 'SIGQUIT')
      const started = Date.now()
      const timer = setInterval(() => {
        if (pid > 0 && runs(pid) && Date.now() - started < 5000) return
        clearInterval(timer)
        rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
      }, 10)
    })`
  const child = spawn(process.execPath, ['-e', script], { stdio: ['pipe', 'ignore', 'ignore'], detached: true })
  const exit = once(child, 'exit')
  child.unref()
  const { stdin } = child
  if ('unref' in stdin && typeof stdin.unref === 'function') stdin.unref()
  return {
    async end() {
      child.ref()
      stdin.end()
      await exit
    },
  }
}

/** The end of a log, to be quoted in an error. */
export function lastLines(file: string): string {
  return readFileSync(file, 'utf8').trim().split('\n').slice(-5).join('\n')
}
