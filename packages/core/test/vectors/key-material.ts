import { createCipheriv, createDecipheriv } from 'node:crypto'
import { contextBytes, type EncryptionContext } from '../../src/context/encryption-context.ts'
import { kmsError } from '../../src/errors/fieldseal-error.ts'
import type { Cmk } from '../../src/keys/cmk.ts'
import { SecretKey } from '../../src/keys/secret-key.ts'
import { hex } from './vector-file.ts'
import { namedBytes } from './scripted-random.ts'

/** All times of the vectors. */
export const NOW = 1_760_000_000_000
export const APP = 'clinic'
export const TENANT = 'clinic-7'

/** A key file of kms-local with one CMK in each state. */
export const KEY_FILE = {
  format: 'fieldseal-local-key',
  version: 1,
  id: hex(namedBytes('key file', 12)),
  cmks: {
    'clinic-7': { state: 'enabled', versions: [cmkVersion('clinic-7', 1), cmkVersion('clinic-7', 2)] },
    'clinic-8': { state: 'enabled', versions: [cmkVersion('clinic-8', 1)] },
    'switched-off': { state: 'disabled', versions: [cmkVersion('switched-off', 1)] },
    leaving: { state: 'pending-deletion', deletesAt: 32_503_680_000_000, versions: [cmkVersion('leaving', 1)] },
    left: { state: 'pending-deletion', deletesAt: NOW, versions: [cmkVersion('left', 1)] },
    gone: { state: 'destroyed', versions: [] },
  },
} as const
export type CmkName = keyof typeof KEY_FILE.cmks

function cmkVersion(name: string, version: number) {
  return { version, key: namedBytes(`cmk ${name} ${version}`, 32).toString('base64url'), createdAt: NOW }
}

export function localUri(name: CmkName): string {
  return `local:${KEY_FILE.id}/${name}`
}

/** The additional data of a blob: the context and two more pairs. */
export function localAad(uri: string, version: number, context: EncryptionContext): Uint8Array {
  return contextBytes({ ...context, 'local.uri': uri, 'local.version': String(version) })
}

/** A blob as kms-local makes it, with a nonce of our choice: 0x01, u32 version, nonce 12, key 32, tag 16. */
export function wrapLocally(
  name: 'clinic-7' | 'clinic-8' | 'switched-off' | 'leaving' | 'left',
  context: EncryptionContext,
  key: Uint8Array,
  seed: string,
  version: number = KEY_FILE.cmks[name].versions.length,
): Buffer {
  const nonce = namedBytes(`local nonce ${seed}`, 12)
  const cipher = createCipheriv('aes-256-gcm', cmkKey(name, version), nonce)
  cipher.setAAD(localAad(localUri(name), version, context))
  const head = Buffer.alloc(5)
  head[0] = 1
  head.writeUInt32BE(version, 1)
  return Buffer.concat([head, nonce, cipher.update(key), cipher.final(), cipher.getAuthTag()])
}

/** undefined when the blob does not authenticate. States are not looked at. */
export function unwrapLocally(uri: string, blob: Uint8Array, context: EncryptionContext): Buffer | undefined {
  const name = (Object.keys(KEY_FILE.cmks) as CmkName[]).find((candidate) => localUri(candidate) === uri)
  const bytes = Buffer.from(blob)
  if (name === undefined || bytes.length !== 65 || bytes[0] !== 1) return undefined
  const version = bytes.readUInt32BE(1)
  if (!KEY_FILE.cmks[name].versions.some((known) => known.version === version)) return undefined
  const decipher = createDecipheriv('aes-256-gcm', cmkKey(name, version), bytes.subarray(5, 17))
  decipher.setAAD(localAad(uri, version, context))
  decipher.setAuthTag(bytes.subarray(49))
  try {
    return Buffer.concat([decipher.update(bytes.subarray(17, 49)), decipher.final()])
  } catch {
    return undefined
  }
}

function cmkKey(name: string, version: number): Buffer {
  return namedBytes(`cmk ${name} ${version}`, 32)
}

/** A CMK of the key file as core sees it: for records and blobs that were made before. */
export function localCmk(uri: string): Cmk {
  const refuseUnlessEnabled = () => {
    const name = (Object.keys(KEY_FILE.cmks) as CmkName[]).find((candidate) => localUri(candidate) === uri)
    const cmk: { readonly state: string; readonly deletesAt?: number } = KEY_FILE.cmks[name ?? 'gone']
    if (cmk.state === 'disabled') throw kmsError('ERR_KMS_KEY_DISABLED', { provider: 'local' })
    if (cmk.state === 'destroyed' || (cmk.deletesAt ?? Number.POSITIVE_INFINITY) <= Date.now())
      throw kmsError('ERR_KMS_KEY_DESTROYED', { provider: 'local' })
    if (cmk.state !== 'enabled') throw kmsError('ERR_KMS_KEY_PENDING_DELETION', { provider: 'local' })
  }
  return {
    provider: 'local',
    uri,
    credentialScope: uri,
    facts: { bindsContext: true, authenticatesWrap: true, maxBlobBytes: 65 },
    wrap: () => Promise.reject(new Error('nothing is wrapped here')),
    async unwrap({ blob }, { context }) {
      refuseUnlessEnabled()
      const key = unwrapLocally(uri, blob, context)
      if (key === undefined) throw kmsError('ERR_KMS_CIPHERTEXT_OR_CONTEXT_INVALID', { provider: 'local' })
      return new SecretKey(key)
    },
  }
}
