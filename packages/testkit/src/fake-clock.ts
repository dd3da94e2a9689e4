/** Time that passes only when told to; without jitter, so that counts of calls are exact. Fits `createFieldseal({ clock })`. */
export interface FakeClock {
  now(): number
  monotonic(): number
  jitter(): number
  /** Moves both clocks. */
  advance(ms: number): void
  /** Moves the wall clock alone, as a process sees it that was frozen. */
  advanceWall(ms: number): void
}

/** @param start epoch milliseconds. @defaultValue 2026-01-01T00:00:00Z */
export function fakeClock(start = Date.UTC(2026, 0, 1)): FakeClock {
  let wall = start
  let monotonic = 0
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
  }
}
