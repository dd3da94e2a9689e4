import { AsyncLocalStorage } from 'node:async_hooks'

/** Runs `fn` as if called where this was made: a timer or queue that work of many callers shares belongs to none of them. */
export function createOutside(): <R>(fn: () => R) => R {
  return AsyncLocalStorage.snapshot()
}
