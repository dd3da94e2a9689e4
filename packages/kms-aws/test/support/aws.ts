import { randomBytes } from 'node:crypto'
import { type FieldsealError, isFieldsealError, type KmsRequest, SecretKey } from '@fieldseal/core/kms'
import { type AwsKmsEmulator, startAwsKms } from '@fieldseal/kms-emulators'
import { afterAll, afterEach, beforeAll } from 'vitest'
import { awsKms, type AwsKmsOptions } from '../../src/index.ts'

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

/** One emulator for a file; faults, policies and calls are forgotten after each test. */
export function useAws() {
  let emulator: AwsKmsEmulator | undefined
  const running = () => {
    if (emulator === undefined) throw new Error('not started')
    return emulator
  }
  beforeAll(async () => {
    emulator = await startAwsKms()
  })
  afterEach(() => {
    running().restore()
    running().forgetCalls()
    running().clockOffsetMs = 0
  })
  afterAll(() => running().stop())
  return {
    get emulator() {
      return running()
    },
    kms: (options: AwsKmsOptions = {}) =>
      awsKms({ endpoint: running().endpoint, credentials: running().credentials(), ...options }),
    /** A fresh key and the port to it. */
    cmk(options: AwsKmsOptions = {}) {
      const arn = running().createKey()
      return { arn, cmk: this.kms(options).cmk(arn) }
    },
  }
}
