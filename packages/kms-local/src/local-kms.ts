import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { statSync } from 'node:fs'
import {
  type Cmk,
  contextBytes,
  type EncryptionContext,
  FieldsealError,
  KEY_LENGTH,
  type Kms,
  kmsError,
  SecretKey,
} from '@fieldseal/core/kms'
import { assertCmkName, type CmkVersion, type KeyFile, readKeyFile, type StoredCmk } from './key-file.ts'

export interface LocalKmsOptions {
  /** Path of the key file; see `createKeyFile` and `npx fieldseal-local-key`. */
  readonly file: string
  /** Whoever reads the file reads all data, so NODE_ENV=production is refused. @defaultValue false */
  readonly allowInProduction?: boolean
}

const PROVIDER = 'local'
const BLOB_FORMAT = 0x01
const AT = { format: 0, version: 1, nonce: 5, wrapped: 17, tag: 49 } as const
const BLOB_BYTES = 65
const TAG_BYTES = 16

/**
 * CMKs in a key file: for development, tests and air-gapped machines. The file is read again whenever it changed, so
 * that disabling a CMK takes effect in running processes.
 *
 * Reads the environment variable NODE_ENV only to refuse to run in production.
 *
 * @throws FieldsealError ERR_CONFIG_INVALID in production without `allowInProduction`
 */
export function localKms({ file, allowInProduction = false }: LocalKmsOptions): Kms {
  if (process.env['NODE_ENV'] === 'production' && !allowInProduction) {
    throw new FieldsealError('ERR_CONFIG_INVALID', {
      field: 'localKms',
      reason: 'a key file in production: whoever reads it reads all data',
      hint: 'use a KMS, or say allowInProduction: true',
    })
  }
  let cached: { readonly stamp: string; readonly content: KeyFile } | undefined

  function load(): KeyFile {
    const stat = statSync(file, { throwIfNoEntry: false })
    const stamp = stat === undefined ? '' : `${stat.ino} ${stat.mtimeMs} ${stat.size} ${stat.mode}`
    if (cached === undefined || cached.stamp !== stamp) cached = { stamp, content: readKeyFile(file) }
    return cached.content
  }

  return {
    cmk(uri) {
      const { id: expectedId, name } = parseUri(uri)
      const find = (signal: AbortSignal): { readonly cmk: StoredCmk; readonly uri: string } => {
        if (signal.aborted) throw kmsError('ERR_KMS_ABORTED', { provider: PROVIDER })
        const { id, cmks } = load()
        const cmk = cmks.get(name)
        if (cmk === undefined || (expectedId !== undefined && expectedId !== id))
          throw kmsError('ERR_KMS_KEY_NOT_FOUND', { provider: PROVIDER })
        return { cmk, uri: `local:${id}/${name}` }
      }
      return localCmk(uri, find)
    },
  }
}

function localCmk(uri: string, find: (signal: AbortSignal) => { readonly cmk: StoredCmk; readonly uri: string }): Cmk {
  const usable = (signal: AbortSignal) => {
    const found = find(signal)
    assertEnabled(found.cmk)
    return found
  }
  return {
    provider: PROVIDER,
    uri,
    credentialScope: `local ${uri}`,
    facts: { bindsContext: true, authenticatesWrap: true, maxBlobBytes: BLOB_BYTES },

    async canonicalUri({ signal }) {
      return find(signal).uri
    },

    async wrap(key, { context, signal }) {
      const { cmk, uri: canonical } = usable(signal)
      const newest = cmk.versions.at(-1)
      if (newest === undefined) throw kmsError('ERR_KMS_KEY_DESTROYED', { provider: PROVIDER })
      const blob = seal(newest, canonical, context, key.exposeBytes())
      return { blob, keyVersion: String(newest.version), versionEvidence: 'reported' }
    },

    async unwrap({ blob }, { context, signal }) {
      const { cmk, uri: canonical } = usable(signal)
      if (blob.length !== BLOB_BYTES || blob[AT.format] !== BLOB_FORMAT) throw invalid()
      const version = Buffer.from(blob).readUInt32BE(AT.version)
      const made = cmk.versions.find((candidate) => candidate.version === version)
      if (made === undefined) throw invalid()
      return open(made, canonical, context, blob)
    },

    async describe({ signal }) {
      const { cmk } = find(signal)
      const newest = cmk.versions.at(-1)
      return {
        state: stateNow(cmk),
        ...(newest === undefined ? {} : { currentVersion: String(newest.version) }),
        ...(cmk.deletesAt === undefined ? {} : { deletesAt: new Date(cmk.deletesAt) }),
      }
    },

    async probe(_wrap, { signal }) {
      try {
        usable(signal)
        return 'allowed'
      } catch (error) {
        return error instanceof Error && 'kind' in error && error.kind === 'denied' ? 'denied' : 'unreachable'
      }
    },
  }
}

/** Format 0x01, u32 version, nonce 12, wrapped key 32, tag 16. */
function seal(
  { version, key }: CmkVersion,
  uri: string,
  context: EncryptionContext,
  plaintext: Uint8Array,
): Uint8Array {
  const blob = Buffer.alloc(BLOB_BYTES)
  blob[AT.format] = BLOB_FORMAT
  blob.writeUInt32BE(version, AT.version)
  randomBytes(AT.wrapped - AT.nonce).copy(blob, AT.nonce)
  const cipher = createCipheriv('aes-256-gcm', key, blob.subarray(AT.nonce, AT.wrapped), { authTagLength: TAG_BYTES })
  cipher.setAAD(additionalData(uri, version, context))
  blob.set(cipher.update(plaintext), AT.wrapped)
  cipher.final()
  blob.set(cipher.getAuthTag(), AT.tag)
  return blob
}

function open({ version, key }: CmkVersion, uri: string, context: EncryptionContext, blob: Uint8Array): SecretKey {
  const decipher = createDecipheriv('aes-256-gcm', key, blob.subarray(AT.nonce, AT.wrapped), {
    authTagLength: TAG_BYTES,
  })
  decipher.setAAD(additionalData(uri, version, context))
  decipher.setAuthTag(blob.subarray(AT.tag))
  const bytes = decipher.update(blob.subarray(AT.wrapped, AT.tag))
  try {
    decipher.final()
  } catch {
    bytes.fill(0)
    throw invalid()
  }
  if (bytes.length !== KEY_LENGTH) throw invalid()
  return new SecretKey(bytes)
}

/** The context with two pairs of our own, as context bytes: a wrap opens under its own CMK and version only. */
function additionalData(uri: string, version: number, context: EncryptionContext): Uint8Array {
  return contextBytes({ ...context, 'local.uri': uri, 'local.version': String(version) })
}

function assertEnabled(cmk: StoredCmk): void {
  switch (stateNow(cmk)) {
    case 'enabled':
      return
    case 'disabled':
      throw kmsError('ERR_KMS_KEY_DISABLED', { provider: PROVIDER })
    case 'pending-deletion':
      throw kmsError('ERR_KMS_KEY_PENDING_DELETION', { provider: PROVIDER })
    case 'destroyed':
      throw kmsError('ERR_KMS_KEY_DESTROYED', { provider: PROVIDER })
  }
}

function stateNow({ state, deletesAt }: StoredCmk): StoredCmk['state'] {
  return state === 'pending-deletion' && deletesAt !== undefined && deletesAt <= Date.now() ? 'destroyed' : state
}

/** `name`, or `local:<id of the key file>/<name>`. */
function parseUri(uri: string): { readonly id: string | undefined; readonly name: string } {
  const match = /^local:([0-9a-f]{24})\/(.+)$/.exec(uri)
  const name = match?.[2] ?? uri
  assertCmkName(name)
  return { id: match?.[1], name }
}

function invalid() {
  return kmsError('ERR_KMS_CIPHERTEXT_OR_CONTEXT_INVALID', { provider: PROVIDER })
}
