/** Time as a Fieldseal sees it; may be injected for tests. Key material and nonces may not. */
export interface Clock {
  /** Wall clock, epoch milliseconds. */
  now(): number
  /** Milliseconds that never go back. */
  monotonic(): number
  /** A number in [0, 1) that spreads refreshes over time; 0 = none. */
  jitter(): number
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  jitter: () => Math.random(),
}

/** A moment on both clocks. */
export interface Moment {
  readonly wall: number
  readonly monotonic: number
}

export function momentOf(clock: Clock): Moment {
  return { wall: clock.now(), monotonic: clock.monotonic() }
}

/** Age in milliseconds, by the clock that says more: a frozen process must not stretch the life of a key. */
export function ageOf(moment: Moment, clock: Clock): number {
  return Math.max(clock.monotonic() - moment.monotonic, clock.now() - moment.wall)
}
