import { randomUUID } from 'node:crypto'
import { realpath, rename, rm, stat, writeFile } from 'node:fs/promises'
import { UsageError } from './exit-codes.ts'

const WHY: Readonly<Record<string, string>> = {
  ENOSPC: 'there is no room: make some, or name another file',
  EDQUOT: 'there is no room: make some, or name another file',
  ENOENT: 'there is no such folder',
  ENOTDIR: 'there is no such folder',
  EISDIR: 'it is a folder',
  EACCES: 'nothing may be written there',
  EPERM: 'nothing may be written there',
  EROFS: 'nothing may be written there',
}

/**
 * Writes a file as a whole or not at all: nobody takes half of it for the whole, and what was there stays until then.
 * @throws UsageError that says why
 */
export async function writeWhole(file: string, text: string): Promise<void> {
  try {
    const there = await stat(file).catch(() => undefined)
    // A pipe or a device takes what it is given, and stays.
    if (there !== undefined && !there.isFile()) await writeFile(file, text)
    else await replace(there === undefined ? file : await realpath(file), text, there?.mode)
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : ''
    throw new UsageError(`${file}: it could not be written: ${WHY[code] ?? (code || String(error))}`)
  }
}

async function replace(file: string, text: string, mode: number | undefined): Promise<void> {
  const draft = `${file}.${randomUUID()}.tmp`
  try {
    await writeFile(draft, text, { flag: 'wx', flush: true, ...(mode === undefined ? {} : { mode }) })
    await rename(draft, file)
  } catch (error) {
    await rm(draft, { force: true })
    throw error
  }
}
