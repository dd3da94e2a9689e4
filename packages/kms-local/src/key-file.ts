import { randomBytes } from 'node:crypto'
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, statSync, writeSync } from 'node:fs'
import { type CmkState, kmsError } from '@fieldseal/core/kms'

/** One version of a CMK. `key` is 32 bytes; gone when the CMK is destroyed. */
export interface CmkVersion {
  readonly version: number
  readonly key: Uint8Array
  /** Epoch milliseconds. */
  readonly createdAt: number
}
export interface StoredCmk {
  readonly state: Extract<CmkState, 'enabled' | 'disabled' | 'pending-deletion' | 'destroyed'>
  /** Epoch milliseconds, in state `pending-deletion`; destroyed from then on. */
  readonly deletesAt?: number
  /** Oldest first; the last one wraps. */
  readonly versions: readonly CmkVersion[]
}
export interface KeyFile {
  /** 24 hex digits; tells key files apart that hold CMKs of the same name. */
  readonly id: string
  readonly cmks: ReadonlyMap<string, StoredCmk>
}

const FORMAT = 'fieldseal-local-key'
const FORMAT_VERSION = 1
const STATES: readonly StoredCmk['state'][] = ['enabled', 'disabled', 'pending-deletion', 'destroyed']

/** @throws FieldsealError ERR_CONFIG_INVALID unless `[a-z0-9][a-z0-9_.-]{0,63}` */
export function assertCmkName(name: string): void {
  if (!/^[a-z0-9][a-z0-9_.-]{0,63}$/.test(name)) throw fileError('the name of a CMK is [a-z0-9][a-z0-9_.-]{0,63}')
}

/**
 * Reads a key file.
 * @throws FieldsealError ERR_KMS_UNAVAILABLE when it cannot be read, ERR_KMS_CONFIG when others may read it or it is malformed
 */
export function readKeyFile(file: string): KeyFile {
  let text: string
  try {
    const { mode } = statSync(file)
    if (process.platform !== 'win32' && (mode & 0o077) !== 0) {
      throw fileError('others than its owner may read the key file', `chmod 600 ${file}`)
    }
    text = readFileSync(file, 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_KMS_')) throw error
    throw kmsError('ERR_KMS_UNAVAILABLE', {
      provider: 'local',
      reason: 'the key file cannot be read',
      hint: CREATE_HINT,
    })
  }
  return parse(text)
}

/** Replaces a key file: temporary file of mode 0600, fsync, rename. */
export function writeKeyFile(file: string, content: KeyFile, flag: 'create' | 'replace'): void {
  const temporary = `${file}.${randomBytes(6).toString('hex')}.tmp`
  const handle = openSync(temporary, 'wx', 0o600)
  try {
    writeSync(handle, serialize(content))
    fsyncSync(handle)
  } finally {
    closeSync(handle)
  }
  try {
    if (flag === 'create' && exists(file))
      throw fileError('the key file exists already', 'it is never overwritten: choose another name')
    renameSync(temporary, file)
  } catch (error) {
    rmSync(temporary, { force: true })
    throw error
  }
}

/** Changes a key file under a lock, so that two changes at the same time are both kept. */
export function changeKeyFile(file: string, change: (content: KeyFile) => KeyFile): void {
  withLock(file, () => writeKeyFile(file, change(readKeyFile(file)), 'replace'))
}

export function withLock<R>(file: string, run: () => R): R {
  const lock = `${file}.lock`
  let handle: number
  try {
    handle = openSync(lock, 'wx', 0o600)
  } catch {
    throw fileError('the key file is being changed by another process', `remove ${lock} if no such process runs`)
  }
  try {
    return run()
  } finally {
    closeSync(handle)
    rmSync(lock, { force: true })
  }
}

export function fileError(reason: string, hint?: string) {
  return kmsError('ERR_KMS_CONFIG', { provider: 'local', reason, ...(hint === undefined ? {} : { hint }) })
}

const CREATE_HINT = 'npx fieldseal-local-key create FILE'

function exists(file: string): boolean {
  return statSync(file, { throwIfNoEntry: false }) !== undefined
}

function serialize({ id, cmks }: KeyFile): string {
  const entries = [...cmks].map(([name, { state, deletesAt, versions }]) => [
    name,
    {
      state,
      ...(deletesAt === undefined ? {} : { deletesAt }),
      versions: versions.map(({ version, key, createdAt }) => ({
        version,
        key: Buffer.from(key).toString('base64url'),
        createdAt,
      })),
    },
  ])
  return `${JSON.stringify({ format: FORMAT, version: FORMAT_VERSION, id, cmks: Object.fromEntries(entries) }, null, 2)}\n`
}

function parse(text: string): KeyFile {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    throw fileError('the key file is not JSON: truncated or damaged') // the parser's text would quote keys
  }
  const { format, version, id, cmks } = members(json)
  if (format !== FORMAT) throw fileError('not a key file of Fieldseal')
  if (version !== FORMAT_VERSION)
    throw fileError('the key file was written by a newer version', 'upgrade @fieldseal/kms-local')
  if (typeof id !== 'string' || !/^[0-9a-f]{24}$/.test(id)) throw fileError('the key file has no id')
  return { id, cmks: new Map(Object.entries(members(cmks)).map(([name, cmk]) => [checkedName(name), parseCmk(cmk)])) }
}

function parseCmk(json: unknown): StoredCmk {
  const { state, deletesAt, versions } = members(json)
  const known = STATES.find((candidate) => candidate === state)
  if (known === undefined || !Array.isArray(versions)) throw fileError('a CMK in the key file is malformed')
  if ((known === 'pending-deletion') !== Number.isSafeInteger(deletesAt))
    throw fileError('a CMK in the key file is malformed')
  const parsed = versions.map(parseVersion)
  const rising = parsed.every(({ version }, i) => version > (parsed[i - 1]?.version ?? 0))
  if (!rising || (parsed.length === 0) !== (known === 'destroyed'))
    throw fileError('the versions of a CMK are malformed')
  return { state: known, ...(typeof deletesAt === 'number' ? { deletesAt } : {}), versions: parsed }
}

function parseVersion(json: unknown): CmkVersion {
  const { version, key, createdAt } = members(json)
  const bytes = typeof key === 'string' ? Buffer.from(key, 'base64url') : Buffer.alloc(0)
  const isCount = typeof version === 'number' && Number.isSafeInteger(version) && version >= 1 && version < 2 ** 32
  if (!isCount || bytes.length !== 32 || typeof createdAt !== 'number')
    throw fileError('a version of a CMK is malformed')
  return { version, key: bytes, createdAt }
}

function checkedName(name: string): string {
  assertCmkName(name)
  return name
}

function members(json: unknown): Record<string, unknown> {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) throw fileError('the key file is malformed')
  return json as Record<string, unknown> // an object that is neither null nor an array
}
