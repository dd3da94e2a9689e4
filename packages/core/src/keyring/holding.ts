/** Keeps a key alive while somebody works with it, though it has left the cache; never beyond its disposal. */
export interface Holding {
  /** @returns the release */
  hold(): () => void
  /** No longer in the cache: zeroed when nobody holds it any more, a turn of the event loop later at the earliest. */
  retire(onZeroed: () => void): void
  /** May not be put into the cache again. */
  readonly retired: boolean
}

export function createHolding(zero: () => void): Holding {
  let holders = 0
  let onRetired: (() => void) | undefined

  function zeroIfUnused(): void {
    if (onRetired === undefined || holders > 0) return
    zero()
    onRetired()
  }

  return {
    hold() {
      let held = true
      holders++
      return () => {
        if (!held) return
        held = false
        holders--
        zeroIfUnused()
      }
    },
    retire(onZeroed) {
      onRetired = onZeroed
      setImmediate(zeroIfUnused) // whoever is just being handed the key can still hold it
    },
    get retired() {
      return onRetired !== undefined
    },
  }
}
