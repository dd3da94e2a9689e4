import { expect, it } from 'vitest'

/** What a refused operation must say. */
export interface Refusal {
  readonly code: string
  /** `details.reason`, from the closed list of the adapter. */
  readonly reason?: string
}

/**
 * A test about one operation that is protected. `docs/reference/mongoose-operations.md` has a line for each: the first
 * two arguments are read from the source, so they are plain strings.
 *
 * @param operation method, or method and operator: `updateOne $set`
 * @param what what happens, as a sentence about behaviour
 */
export function protects(operation: string, what: string, run: () => Promise<void>): void {
  it(`${operation}: ${what}`, run)
}

/**
 * A test about one operation that is refused: it must reject, or throw, with this error, and before it changed anything.
 *
 * @param refusal kept in the table: `{ code, reason }` as literals
 */
export function refuses(operation: string, what: string, refusal: Refusal, run: () => unknown): void {
  it(`${operation}: ${what}`, async () => {
    const error: unknown = await Promise.resolve()
      .then(run)
      .then(
        () => undefined,
        (thrown: unknown) => thrown,
      )
    expect(error, 'it must be refused').toBeDefined()
    expect(error).toMatchObject({
      code: refusal.code,
      ...(refusal.reason === undefined ? {} : { details: { reason: refusal.reason } }),
    })
  })
}
