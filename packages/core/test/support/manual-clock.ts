import type { Clock } from '../../src/cache/clock.ts'

/** Time that passes only when told to, without jitter. */
export interface ManualClock extends Clock {
  advance(ms: number): void
  /** Moves the wall clock alone, as a process sees it that was frozen and resumed. */
  advanceWall(ms: number): void
  /** Moves the monotonic clock alone, as when somebody sets the wall clock back meanwhile. */
  advanceMonotonic(ms: number): void
}

export function manualClock(): ManualClock {
  let wall = 1_700_000_000_000
  let monotonic = 1_000
  return {
    now: () => wall,
    monotonic: () => monotonic,
    jitter: () => 0,
    advance(ms) {
      wall += ms
      monotonic += ms
    },
    advanceWall(ms) {
      wall += ms
    },
    advanceMonotonic(ms) {
      monotonic += ms
    },
  }
}
