import { randomBytes } from 'node:crypto'
import type { CallFacts } from '../shared/calls.ts'
import type { ControlState } from '../shared/control.ts'
import { keyOfBlob, openBlob, sealBlob } from './aws-blob.ts'
import { type AwsAnswer, type AwsCall, denied, type JsonAnswer, textOf } from './aws-call.ts'
import { AwsFailure, validation } from './aws-failure.ts'
import { assertUsable, type AwsKey, type AwsKeys } from './aws-keys.ts'
import { manage } from './aws-management.ts'

const MAX_PLAINTEXT_BYTES = 4_096
const MAX_BLOB_BYTES = 6_144

/**
 * Answers one call of the service TrentService.
 *
 * Checks in this order, which AWS does not document: the request's shape, the key's name, the policies, the key's
 * state, ciphertext and context. `DryRun` ends behind the last check.
 *
 * @throws AwsFailure
 */
export function answer(keys: AwsKeys, control: ControlState<JsonAnswer>, call: AwsCall): AwsAnswer {
  const { operation, principal, region, input } = call

  function use(name: string, key: AwsKey, context: Readonly<Record<string, string>>): string {
    const arn = keys.arnOf(key, region)
    const facts: CallFacts = { operation: name, principal, key: arn, context }
    if (!control.allowed(facts)) throw denied(principal, name, arn)
    assertUsable(key, arn)
    return arn
  }

  function unseal(
    name: string,
    keyId: string | undefined,
    blob: Uint8Array,
    context: Readonly<Record<string, string>>,
  ) {
    const asked = keyId === undefined ? undefined : keys.find(keyId, region)
    const made = keyOfBlob(keys, blob)
    // A name that is not the blob's own is refused before anything is tried; without a name the blob chooses.
    const key = asked ?? made
    if (key === undefined) throw new AwsFailure('InvalidCiphertextException', '')
    const arn = use(name, key, context)
    if (made !== undefined && made !== key) {
      throw new AwsFailure(
        'IncorrectKeyException',
        'The key ID in the request does not identify a CMK that can perform this operation.',
      )
    }
    if (made === undefined) throw new AwsFailure('InvalidCiphertextException', '')
    return { ...openBlob(key, context, blob), arn }
  }

  const endDryRun = () => {
    if (input['DryRun'] === true) {
      throw new AwsFailure(
        'DryRunOperationException',
        'The request would have succeeded, but the DryRun option is set.',
        412,
      )
    }
  }

  switch (operation) {
    case 'Encrypt': {
      const context = contextOf(input['EncryptionContext'])
      const plaintext = bytesOf(input['Plaintext'], 'plaintext', MAX_PLAINTEXT_BYTES)
      const key = keys.find(textOf(input['KeyId'], 'keyId'), region)
      const arn = use('Encrypt', key, context)
      endDryRun()
      return {
        output: {
          CiphertextBlob: base64(sealBlob(key, context, plaintext)),
          KeyId: arn,
          EncryptionAlgorithm: 'SYMMETRIC_DEFAULT',
        },
        logged: logged(arn, context, key.materials.at(-1)?.id),
      }
    }
    case 'GenerateDataKey':
    case 'GenerateDataKeyWithoutPlaintext': {
      const context = contextOf(input['EncryptionContext'])
      const plaintext = randomBytes(dataKeyBytes(input))
      const key = keys.find(textOf(input['KeyId'], 'keyId'), region)
      const arn = use(operation, key, context)
      endDryRun()
      return {
        output: {
          CiphertextBlob: base64(sealBlob(key, context, plaintext)),
          ...(operation === 'GenerateDataKey' ? { Plaintext: base64(plaintext) } : {}),
          KeyId: arn,
          KeyMaterialId: key.materials.at(-1)?.id,
        },
        logged: logged(arn, context, key.materials.at(-1)?.id),
      }
    }
    case 'Decrypt': {
      const context = contextOf(input['EncryptionContext'])
      const keyId = input['KeyId'] === undefined ? undefined : textOf(input['KeyId'], 'keyId')
      const blob = bytesOf(input['CiphertextBlob'], 'ciphertextBlob', MAX_BLOB_BYTES)
      const { arn, plaintext, materialId } = unseal('Decrypt', keyId, blob, context)
      endDryRun()
      return {
        output: {
          Plaintext: base64(plaintext),
          KeyId: arn,
          KeyMaterialId: materialId,
          EncryptionAlgorithm: 'SYMMETRIC_DEFAULT',
        },
        logged: logged(arn, context, materialId),
      }
    }
    case 'ReEncrypt': {
      const from = contextOf(input['SourceEncryptionContext'])
      const to = contextOf(input['DestinationEncryptionContext'])
      const keyId = input['SourceKeyId'] === undefined ? undefined : textOf(input['SourceKeyId'], 'sourceKeyId')
      const blob = bytesOf(input['CiphertextBlob'], 'ciphertextBlob', MAX_BLOB_BYTES)
      const source = unseal('ReEncryptFrom', keyId, blob, from)
      const destination = keys.find(textOf(input['DestinationKeyId'], 'destinationKeyId'), region)
      const arn = use('ReEncryptTo', destination, to)
      endDryRun()
      return {
        output: {
          CiphertextBlob: base64(sealBlob(destination, to, source.plaintext)),
          SourceKeyId: source.arn,
          SourceKeyMaterialId: source.materialId,
          KeyId: arn,
          DestinationKeyMaterialId: destination.materials.at(-1)?.id,
          SourceEncryptionAlgorithm: 'SYMMETRIC_DEFAULT',
          DestinationEncryptionAlgorithm: 'SYMMETRIC_DEFAULT',
        },
        logged: logged(arn, to, destination.materials.at(-1)?.id),
      }
    }
    default:
      return manage(keys, control, call)
  }
}

function logged(key: string, context: Readonly<Record<string, string>>, keyVersion: string | undefined) {
  return { key, context, ...(keyVersion === undefined ? {} : { keyVersion }) }
}

function dataKeyBytes({ KeySpec: spec, NumberOfBytes: count }: JsonAnswer): number {
  if ((spec === undefined) === (count === undefined))
    throw validation('Please specify either number of bytes or key spec.')
  if (spec === 'AES_256') return 32
  if (spec === 'AES_128') return 16
  if (typeof count !== 'number' || !Number.isInteger(count) || count < 1 || count > 1024)
    throw validation("Value at 'numberOfBytes' failed to satisfy constraint")
  return count
}

function bytesOf(value: unknown, name: string, max: number): Uint8Array {
  const bytes = Buffer.from(typeof value === 'string' ? value : '', 'base64')
  if (bytes.length < 1 || bytes.length > max) throw validation(`Value at '${name}' failed to satisfy constraint`)
  return bytes
}

function contextOf(value: unknown): Readonly<Record<string, string>> {
  if (value === undefined) return {}
  const entries = typeof value === 'object' && value !== null ? Object.entries(value) : []
  if (entries.some(([, text]) => typeof text !== 'string'))
    throw new AwsFailure('SerializationException', 'STRING_VALUE expected')
  return Object.fromEntries(entries)
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64')
}
