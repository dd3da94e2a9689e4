import { type GcpKmsEmulator, startGcpKms } from '@fieldseal/kms-emulators'
import { afterAll, afterEach, beforeAll } from 'vitest'
import { gcpKms, type GcpKmsOptions } from '../../src/index.ts'

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
