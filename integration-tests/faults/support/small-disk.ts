import { execFileSync } from 'node:child_process'
import { chownSync, mkdtempSync, rmdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'

/** A file system of its own of a few megabytes. */
export interface SmallDisk {
  readonly folder: string
  /** Takes all the room there is, but for so many bytes. */
  fill(left?: number): void
  makeRoom(): void
  remove(): void
}

/** @returns why the machine does not let us mount one, where it does not */
export function mountSmallDisk(megabytes: number): SmallDisk | string {
  const folder = mkdtempSync(path.join(tmpdir(), 'fieldseal-disk-'))
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m`, 'tmpfs', folder], { stdio: 'pipe' })
  } catch (error) {
    rmdirSync(folder)
    return `no file system can be mounted here: ${String(error).split('\n')[0]}`
  }
  const filler = path.join(folder, 'filler')
  return {
    folder,
    fill(left = 0) {
      for (const size of [1 << 20, 1 << 12, 1])
        try {
          for (;;) writeFileSync(filler, Buffer.alloc(size), { flag: 'a' })
        } catch {
          // Full, for pieces of this size.
        }
      truncateSync(filler, statSync(filler).size - left) // the last page of the filler is full
    },
    makeRoom: () => rmSync(filler),
    remove() {
      execFileSync('umount', ['-l', folder])
      rmdirSync(folder)
    },
  }
}

/** Gives a folder to whoever owns another one. */
export function giveToOwnerOf(other: string, folder: string): void {
  const { uid, gid } = statSync(other)
  chownSync(folder, uid, gid)
}
