import { type ErrorKind, isFieldsealError } from '@fieldseal/core'

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

/** A mistake in how the command was called or configured; or what the configuration needs does not answer. */
export class UsageError extends Error {
  readonly kind: 'misuse' | 'unavailable'

  constructor(message: string, kind: 'misuse' | 'unavailable' = 'misuse') {
    super(message)
    this.kind = kind
  }
}

export function exitCodeOf(error: unknown): number {
  if (error instanceof Error && error.name === 'AbortError') return EXIT.interrupted
  if (error instanceof UsageError) return exitCodeOfKind(error.kind)
  if (!isFieldsealError(error)) return EXIT.unexpected
  return error.code === 'ERR_ROWS_REMAIN' ? EXIT.remains : exitCodeOfKind(error.kind)
}

function exitCodeOfKind(kind: ErrorKind): number {
  switch (kind) {
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
      return kind satisfies never
  }
}
