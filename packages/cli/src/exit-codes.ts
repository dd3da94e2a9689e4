import { isFieldsealError } from '@fieldseal/core'

/** How the command ends; documented in docs/reference/cli.md. */
export const EXIT = {
  done: 0,
  unexpected: 1,
  /** Usage or configuration. */
  usage: 2,
  /** Rows remain, or something was found. */
  remains: 3,
  /** Refused: a key is still needed, a plan is out of date. */
  refused: 4,
  /** A key was denied, or a service did not answer. */
  unavailable: 5,
  /** Interrupted; the checkpoint is kept. */
  interrupted: 130,
} as const

/** A mistake in how the command was called or configured. */
export class UsageError extends Error {}

export function exitCodeOf(error: unknown): number {
  if (error instanceof UsageError) return EXIT.usage
  if (error instanceof Error && error.name === 'AbortError') return EXIT.interrupted
  if (!isFieldsealError(error)) return EXIT.unexpected
  if (error.code === 'ERR_ROWS_REMAIN') return EXIT.remains
  switch (error.kind) {
    case 'refused':
      return EXIT.refused
    case 'denied':
    case 'unavailable':
    case 'erased':
      return EXIT.unavailable
    case 'misuse':
      return EXIT.usage
    case 'corrupt':
      return EXIT.unexpected
    default:
      return error.kind satisfies never
  }
}
