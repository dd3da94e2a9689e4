import { randomBytes } from 'node:crypto'
import { type FieldsealError, isFieldsealError, type KmsRequest, SecretKey } from '@fieldseal/core/kms'

export const CONTEXT = {
  app: 'clinic',
  fieldseal: '1',
  tenant: 'clinic-7',
  keyspace: 'default',
  purpose: 'wrap',
  kek: '00112233445566778899aabb',
}

export function request(over: Partial<KmsRequest> = {}): KmsRequest {
  return { context: CONTEXT, signal: AbortSignal.timeout(10_000), ...over }
}

export function newKey(bytes: Uint8Array = randomBytes(32)): SecretKey {
  return new SecretKey(Uint8Array.from(bytes))
}

/** What a call was rejected with; it must be one of ours. */
export async function failure(work: Promise<unknown>): Promise<FieldsealError> {
  try {
    await work
  } catch (error) {
    if (isFieldsealError(error)) return error
    throw error
  }
  throw new Error('expected a rejection')
}
