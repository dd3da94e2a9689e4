import { type AwsKmsEmulator, startAwsKms } from '@fieldseal/kms-emulators'
import { afterAll, afterEach, beforeAll } from 'vitest'
import { awsKms, type AwsKmsOptions } from '../../src/index.ts'

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
