import type { Cmk, Kms } from '@fieldseal/core/kms'
import type { EmulatorControl } from '../src/index.ts'

/** A provider and the emulator that it talks to: what a suite that runs for each cloud needs of both. */
export interface CloudUnderTest {
  /** Faults, policies and calls are forgotten after each test. */
  readonly emulator: Pick<EmulatorControl<never>, 'calls' | 'deny' | 'forgetCalls' | 'hang' | 'restore'> & {
    createKey(): string
    disable(key: string): void
    enable(key: string): void
  }
  /** A `Kms` of its own, closed by the caller. */
  kms(options?: { readonly maxClients?: number }): Kms<{ readonly credentialScope?: string }>
  /** The port to a fresh key. */
  cmk(): { readonly cmk: Cmk }
}
