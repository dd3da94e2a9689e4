const SLICE_MS = 8
const CHECK_EVERY = 8

/**
 * Runs `step` for 0…count-1 in slices of about 8 ms, with a turn of the event loop between them: decryption is
 * synchronous, and other requests must not wait for a long result set. `resumed` runs after each yield.
 */
export async function inTimeSlices(
  count: number,
  step: (from: number, to: number) => void,
  resumed?: () => Promise<void>,
): Promise<void> {
  let sliceEnd = performance.now() + SLICE_MS
  for (let from = 0; from < count; from += CHECK_EVERY) {
    step(from, Math.min(count, from + CHECK_EVERY))
    if (performance.now() < sliceEnd || from + CHECK_EVERY >= count) continue
    await new Promise((resolve) => setImmediate(resolve))
    await resumed?.()
    sliceEnd = performance.now() + SLICE_MS
  }
}
