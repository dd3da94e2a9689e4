import { randomBytes } from 'node:crypto'
import { type FieldsealError, isFieldsealError, type KmsRequest, SecretKey } from '@fieldseal/core/kms'
import { type GcpKmsEmulator, startGcpKms } from '@fieldseal/kms-emulators'
import { afterAll, afterEach, beforeAll } from 'vitest'
import { gcpKms, type GcpKmsOptions } from '../../src/index.ts'

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

/** One emulator and one `gcpKms` for a file; faults, policies and calls are forgotten after each test. */
export function useGcp() {
  let emulator: GcpKmsEmulator | undefined
  let shared: ReturnType<typeof gcpKms> | undefined
  const running = () => {
    if (emulator === undefined) throw new Error('not started')
    return emulator
  }
  const kms = ({ clientOptions, ...options }: GcpKmsOptions = {}) =>
    gcpKms({ clientOptions: { ...running().clientOptions(), ...clientOptions }, ...options })
  beforeAll(async () => {
    emulator = await startGcpKms()
    shared = kms()
  })
  afterEach(() => {
    running().restore()
    running().forgetCalls()
  })
  afterAll(async () => {
    await shared?.close?.()
    await running().stop()
  })
  return {
    get emulator() {
      return running()
    },
    kms,
    /** A fresh key and the port to it; the scope is the file's, so that ports share a connection. */
    cmk() {
      const name = running().createKey()
      const cmk = (shared ?? kms()).cmk(name, { credentialScope: 'test' })
      return { name, cmk }
    },
  }
}
