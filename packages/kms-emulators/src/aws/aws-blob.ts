import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { contextBytes } from '../shared/context-bytes.ts'
import { AwsFailure } from './aws-failure.ts'
import type { AwsKey, AwsKeys } from './aws-keys.ts'

/** Magic, u8 length and bytes of the key id, material id 32, nonce 12, ciphertext, tag 16. The real one is opaque. */
const MAGIC = Buffer.from('FSK1')
const MATERIAL_BYTES = 32
const NONCE_BYTES = 12
const TAG_BYTES = 16

type Context = Readonly<Record<string, string>>

export interface Opened {
  readonly key: AwsKey
  readonly materialId: string
  readonly plaintext: Uint8Array
}

export function sealBlob(key: AwsKey, context: Context, plaintext: Uint8Array): Uint8Array {
  const material = key.materials.at(-1)
  if (material === undefined) throw new AwsFailure('KMSInternalException', 'no material', 500)
  const id = Buffer.from(key.id)
  const head = Buffer.concat([MAGIC, Buffer.of(id.length), id, Buffer.from(material.id, 'hex')])
  const nonce = randomBytes(NONCE_BYTES)
  const cipher = createCipheriv('aes-256-gcm', material.key, nonce, { authTagLength: TAG_BYTES })
  cipher.setAAD(Buffer.concat([head, contextBytes(context)]))
  return Buffer.concat([head, nonce, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()])
}

/** The key that a blob was made with; `undefined` for what is no blob. */
export function keyOfBlob(keys: AwsKeys, blob: Uint8Array): AwsKey | undefined {
  const bytes = Buffer.from(blob)
  if (bytes.length < MAGIC.length + 1 || !bytes.subarray(0, MAGIC.length).equals(MAGIC)) return undefined
  const length = bytes[MAGIC.length] ?? 0
  return keys.byId(bytes.subarray(MAGIC.length + 1, MAGIC.length + 1 + length).toString())
}

/** @throws AwsFailure InvalidCiphertextException for an altered blob or another context */
export function openBlob(key: AwsKey, context: Context, blob: Uint8Array): Opened {
  const bytes = Buffer.from(blob)
  const headLength = MAGIC.length + 1 + Buffer.byteLength(key.id) + MATERIAL_BYTES
  if (bytes.length < headLength + NONCE_BYTES + TAG_BYTES) throw invalid()
  const head = bytes.subarray(0, headLength)
  const materialId = head.subarray(-MATERIAL_BYTES).toString('hex')
  const material = key.materials.find(({ id }) => id === materialId)
  if (material === undefined) throw invalid()
  const nonce = bytes.subarray(headLength, headLength + NONCE_BYTES)
  const decipher = createDecipheriv('aes-256-gcm', material.key, nonce, { authTagLength: TAG_BYTES })
  decipher.setAAD(Buffer.concat([head, contextBytes(context)]))
  decipher.setAuthTag(bytes.subarray(-TAG_BYTES))
  try {
    const plaintext = decipher.update(bytes.subarray(headLength + NONCE_BYTES, -TAG_BYTES))
    decipher.final()
    return { key, materialId, plaintext }
  } catch {
    throw invalid()
  }
}

function invalid(): AwsFailure {
  // AWS sends no text with this one.
  return new AwsFailure('InvalidCiphertextException', '')
}
