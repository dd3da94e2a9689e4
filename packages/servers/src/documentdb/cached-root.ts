import { spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { homedir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { say } from '../say.ts'
import { debianMirror } from './debian-mirror.ts'
import { KEYRING, unpackEngine } from './debian-packages.ts'
import { makeTemplate } from './engine-process.ts'

const BUILDING = '-build-'

/** Changes when what is built changes, so that an older build is not taken for it. */
const BUILD = '4'

/** @returns why this machine cannot have the engine; undefined when it can */
export function obstacle(): string | undefined {
  if (process.platform !== 'linux') return 'needs Linux'
  if (process.getuid?.() !== 0) return 'needs root'
  if (spawnSync('chroot', ['/', '/bin/true']).status !== 0) return 'needs chroot'
  if (existsSync(cacheFolder())) return undefined
  return debianMirror() === undefined || !existsSync(KEYRING) ? "needs Debian's package sources" : undefined
}

/**
 * The engine and all libraries it needs, as the root folder of its process. Built once per user and kept outside the
 * repository, in `$XDG_CACHE_HOME` or `~/.cache`.
 *
 * @throws Error when the packages cannot be had
 */
export async function cachedRoot(): Promise<string> {
  const folder = cacheFolder()
  if (!existsSync(folder)) await alone(folder, () => build(folder))
  return folder
}

function cacheFolder(): string {
  const base = process.env['XDG_CACHE_HOME'] || path.join(homedir(), '.cache')
  return path.join(base, 'fieldseal', `documentdb-${BUILD}-${process.arch}`)
}

/** Runs `action` unless another process is running it for the same folder: then waits for that one. */
async function alone(folder: string, action: () => Promise<void>): Promise<void> {
  const lock = `${folder}.lock`
  mkdirSync(path.dirname(folder), { recursive: true })
  while (!existsSync(folder)) {
    try {
      writeFileSync(lock, String(process.pid), { flag: 'wx' })
    } catch {
      if (isLeftBehind(lock)) rmSync(lock, { force: true })
      await sleep(100)
      continue
    }
    try {
      if (!existsSync(folder)) await action()
    } finally {
      rmSync(lock, { force: true })
    }
  }
}

function isLeftBehind(lock: string): boolean {
  try {
    const pid = Number(readFileSync(lock, 'utf8'))
    if (pid > 0) process.kill(pid, 0)
    return false
  } catch {
    return true // no such process, or the lock has just gone
  }
}

/** What builds that were killed have left; the lock is ours, so none is running. */
function removeLeftovers(folder: string): void {
  const [parent, prefix] = [path.dirname(folder), `${path.basename(folder)}${BUILDING}`]
  for (const name of readdirSync(parent)) {
    if (name.startsWith(prefix)) rmSync(path.join(parent, name), { recursive: true, force: true })
  }
}

async function build(folder: string): Promise<void> {
  const mirror = debianMirror()
  if (mirror === undefined) throw new Error('the machine names no Debian mirror')
  removeLeftovers(folder)
  const work = mkdtempSync(`${folder}${BUILDING}`)
  const root = path.join(work, 'root')
  try {
    say("DocumentDB: unpacking Debian's packages, once (about 140 MB to download)")
    await unpackEngine(mirror, root, work)
    say('DocumentDB: making its first cluster')
    await makeTemplate(root)
    renameSync(root, folder)
    say(`DocumentDB: kept in ${folder}`)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}
