import { randomUUID } from 'node:crypto'
import { chmod, realpath, rename, rm, stat, writeFile } from 'node:fs/promises'
import { UsageError } from './exit-codes.ts'

/** Of files that name tenants, data subjects and keys. */
export const OWNER_ONLY = 0o600

/** Whether a code of Node says that a disk, or what one may have of it, is full. */
export function isFull(code: string): boolean {
  return code === 'ENOSPC' || code === 'EDQUOT'
}

const NO_ROOM = 'there is no room: make some, or name another file'

const WHY: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such folder',
  ENOTDIR: 'there is no such folder',
  EISDIR: 'it is a folder',
  EACCES: 'nothing may be written there',
  EPERM: 'nothing may be written there',
  EROFS: 'nothing may be written there',
}

/**
 * Writes a file as a whole or not at all: nobody takes half of it for the whole, and what was there stays until then.
 *
 * @param mode of a file that is not there yet. @defaultValue as umask says
 * @throws UsageError that says why
 */
export async function writeWhole(file: string, text: string, mode?: number): Promise<void> {
  try {
    const there = await stat(file).catch(() => undefined)
    // A pipe or a device takes what it is given, and stays.
    if (there !== undefined && !there.isFile()) await writeFile(file, text)
    else if (there === undefined) await replace(file, text, { mode })
    else await replace(await realpath(file), text, { keep: there.mode })
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : ''
    throw new UsageError(
      `${file}: it could not be written: ${isFull(code) ? NO_ROOM : (WHY[code] ?? (code || String(error)))}`,
    )
  }
}

async function replace(
  file: string,
  text: string,
  { mode, keep }: { readonly mode?: number | undefined; readonly keep?: number },
): Promise<void> {
  const draft = `${file}.${randomUUID()}.tmp`
  try {
    await writeFile(draft, text, { flag: 'wx', flush: true, mode: keep === undefined ? (mode ?? 0o666) : OWNER_ONLY })
    if (keep !== undefined) await chmod(draft, keep & 0o7777)
    await rename(draft, file)
  } catch (error) {
    await rm(draft, { force: true })
    throw error
  }
}
