const FORGOTTEN_AFTER_MS = 60_000
const MOST = 20_000

/**
 * Cells whose rewrap is under way: many readers find the same ones outdated. Only saves work, so cells that never come
 * back are forgotten after a minute.
 */
export class CellsInFlight {
  readonly #until = new Map<string, number>()

  /** True for the first who asks for a cell. */
  take(id: unknown, cell: Uint8Array): boolean {
    const [name, now] = [nameOf(id, cell), performance.now()]
    if ((this.#until.get(name) ?? 0) > now) return false
    this.#until.delete(name) // so that it is the newest
    this.#until.set(name, now + FORGOTTEN_AFTER_MS)
    const [oldest] = this.#until.keys()
    if (this.#until.size > MOST && oldest !== undefined) this.#until.delete(oldest)
    return true
  }

  release(id: unknown, cell: Uint8Array): void {
    this.#until.delete(nameOf(id, cell))
  }
}

/** An envelope ends in its tag, which no other has; documents that one update wrote share theirs. */
function nameOf(id: unknown, cell: Uint8Array): string {
  return `${Buffer.from(cell.subarray(-16)).toString('latin1')} ${String(id)}`
}
