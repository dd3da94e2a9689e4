import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { grpc } from 'google-gax'
import type { LoggedCall } from '../shared/calls.ts'
import { crc32cBitwise } from './crc32c.ts'
import { type GcpAnswer, nameOf } from './gcp-answer.ts'
import { assertVersionEnabled, type GcpKey, type GcpKeys, type GcpVersion, versionOf } from './gcp-keys.ts'
import { GrpcFailure } from './grpc-failure.ts'

export interface GcpResult {
  readonly output: GcpAnswer
  readonly logged: Pick<LoggedCall, 'keyVersion'>
}

/** Tag of the key 8, version u32, nonce 12, ciphertext, tag 16. The real one is opaque. */
const AT = { version: 8, nonce: 12, body: 24 } as const
const TAG_BYTES = 16
const MAX_SOFTWARE_BYTES = 65_536
const MAX_HSM_BYTES = 8_192

const PERMISSIONS: Readonly<Record<string, string>> = {
  Encrypt: 'cloudkms.cryptoKeyVersions.useToEncrypt',
  Decrypt: 'cloudkms.cryptoKeyVersions.useToDecrypt',
  GetCryptoKey: 'cloudkms.cryptoKeys.get',
  GetCryptoKeyVersion: 'cloudkms.cryptoKeyVersions.get',
}

export function permissionDenied(operation: string, key: string): GrpcFailure {
  return new GrpcFailure(
    grpc.status.PERMISSION_DENIED,
    `Permission '${PERMISSIONS[operation]}' denied on resource '${key}' (or it may not exist).`,
    { reason: 'IAM_PERMISSION_DENIED' },
  )
}

/**
 * Answers one call of google.cloud.kms.v1.KeyManagementService. Checksums are compared where they were sent, and
 * returned always.
 * @throws GrpcFailure
 */
export function answerGcp(keys: GcpKeys, operation: string, request: GcpAnswer): GcpResult {
  const [keyName = '', versionNumber] = nameOf(request).split('/cryptoKeyVersions/')
  const key = keys.find(keyName)
  switch (operation) {
    case 'Encrypt':
      return encrypt(key, versionNumber === undefined ? key.primary : Number(versionNumber), request)
    case 'Decrypt':
      return decrypt(key, versionNumber, request)
    case 'GetCryptoKey':
      return { output: describeKey(key), logged: {} }
    case 'GetCryptoKeyVersion':
      return { output: describeVersion(key, versionOf(key, Number(versionNumber))), logged: {} }
    default:
      throw new GrpcFailure(grpc.status.UNIMPLEMENTED, `${operation} is not emulated`)
  }
}

function encrypt(key: GcpKey, number: number, request: GcpAnswer): GcpResult {
  const plaintext = bytesOf(request, 'plaintext')
  const aad = bytesOf(request, 'additionalAuthenticatedData')
  const tooLong =
    key.protectionLevel === 'HSM'
      ? plaintext.length + aad.length > MAX_HSM_BYTES
      : Math.max(plaintext.length, aad.length) > MAX_SOFTWARE_BYTES
  if (tooLong) throw invalid('The request is too large.')
  const verifiedPlaintextCrc32c = checksum(request, 'plaintextCrc32c', plaintext)
  const verifiedAdditionalAuthenticatedDataCrc32c = checksum(request, 'additionalAuthenticatedDataCrc32c', aad)
  const version = versionOf(key, number)
  assertVersionEnabled(key, version)
  const head = Buffer.alloc(AT.body)
  head.set(key.tag)
  head.writeUInt32BE(number, AT.version)
  head.set(randomBytes(AT.body - AT.nonce), AT.nonce)
  const cipher = createCipheriv('aes-256-gcm', version.key, head.subarray(AT.nonce), { authTagLength: TAG_BYTES })
  cipher.setAAD(Buffer.concat([head.subarray(0, AT.nonce), aad]))
  const ciphertext = Buffer.concat([head, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()])
  return {
    output: {
      name: `${key.name}/cryptoKeyVersions/${number}`,
      ciphertext,
      ciphertextCrc32c: { value: String(crc32cBitwise(ciphertext)) },
      verifiedPlaintextCrc32c,
      verifiedAdditionalAuthenticatedDataCrc32c,
      protectionLevel: key.protectionLevel,
    },
    logged: { keyVersion: String(number) },
  }
}

function decrypt(key: GcpKey, versionNumber: string | undefined, request: GcpAnswer): GcpResult {
  if (versionNumber !== undefined) throw invalid('name must be a CryptoKey, not a CryptoKeyVersion.')
  const ciphertext = Buffer.from(bytesOf(request, 'ciphertext'))
  const aad = bytesOf(request, 'additionalAuthenticatedData')
  checksum(request, 'ciphertextCrc32c', ciphertext)
  checksum(request, 'additionalAuthenticatedDataCrc32c', aad)
  if (ciphertext.length < AT.body + TAG_BYTES) throw undecryptable('the ciphertext is invalid.')
  if (!ciphertext.subarray(0, AT.version).equals(key.tag)) throw undecryptable(WRONG_NAME)
  const version = key.versions[ciphertext.readUInt32BE(AT.version) - 1]
  if (version === undefined) throw undecryptable('the ciphertext is invalid.')
  assertVersionEnabled(key, version)
  const decipher = createDecipheriv('aes-256-gcm', version.key, ciphertext.subarray(AT.nonce, AT.body), {
    authTagLength: TAG_BYTES,
  })
  decipher.setAAD(Buffer.concat([ciphertext.subarray(0, AT.nonce), aad]))
  decipher.setAuthTag(ciphertext.subarray(-TAG_BYTES))
  let plaintext: Buffer
  try {
    plaintext = Buffer.concat([decipher.update(ciphertext.subarray(AT.body, -TAG_BYTES)), decipher.final()])
  } catch {
    throw undecryptable(WRONG_NAME)
  }
  return {
    output: {
      plaintext,
      plaintextCrc32c: { value: String(crc32cBitwise(plaintext)) },
      usedPrimary: version.number === key.primary,
      protectionLevel: key.protectionLevel,
    },
    logged: { keyVersion: String(version.number) },
  }
}

function describeKey(key: GcpKey): GcpAnswer {
  return {
    name: key.name,
    purpose: 'ENCRYPT_DECRYPT',
    primary: describeVersion(key, versionOf(key, key.primary)),
  }
}

function describeVersion(key: GcpKey, { number, state, createdAt, destroyAt }: GcpVersion): GcpAnswer {
  const timestamp = (date: Date) => ({ seconds: String(Math.floor(date.getTime() / 1_000)), nanos: 0 })
  return {
    name: `${key.name}/cryptoKeyVersions/${number}`,
    state,
    protectionLevel: key.protectionLevel,
    algorithm: 'GOOGLE_SYMMETRIC_ENCRYPTION',
    createTime: timestamp(createdAt),
    ...(destroyAt === undefined ? {} : { destroyTime: timestamp(destroyAt) }),
  }
}

/** @returns whether a checksum was sent and is right @throws GrpcFailure when it is wrong */
function checksum(request: GcpAnswer, field: string, bytes: Uint8Array): boolean {
  const sent = request[field]
  if (typeof sent !== 'object' || sent === null || !('value' in sent)) return false
  if (Number(sent.value) !== crc32cBitwise(bytes))
    throw invalid(`The checksum in field ${snake(field)} did not match the data in field ${snake(field.slice(0, -6))}.`)
  return true
}

const WRONG_NAME = "verify that 'name' refers to the correct CryptoKey."

function undecryptable(text: string): GrpcFailure {
  return invalid(`Decryption failed: ${text}`)
}

function invalid(text: string): GrpcFailure {
  return new GrpcFailure(grpc.status.INVALID_ARGUMENT, text)
}

function bytesOf(request: GcpAnswer, field: string): Uint8Array {
  const value = request[field]
  return value instanceof Uint8Array ? value : new Uint8Array(0)
}

function snake(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}
