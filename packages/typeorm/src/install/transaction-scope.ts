import { AsyncLocalStorage } from 'node:async_hooks'
import { FieldsealError } from '@fieldseal/core/adapter'

/** Knows whether the code at hand runs inside `transaction(…)` of the DataSource. */
export interface TransactionScope {
  run<R>(fn: () => Promise<R>): Promise<R>
  /** Runs `fn` as if outside: what it starts, goes on after the transaction. */
  exit<R>(fn: () => R): R
  /** @throws FieldsealError ERR_WRITE_UNSUPPORTED inside a transaction */
  assertOutside(operation: string): void
}

export function createTransactionScope(): TransactionScope {
  const scope = new AsyncLocalStorage<{ open: boolean }>()
  return {
    run(fn) {
      const frame = { open: true }
      return scope.run(frame, async () => {
        try {
          return await fn()
        } finally {
          frame.open = false
        }
      })
    },
    exit: (fn) => scope.exit(fn),
    assertOutside(operation) {
      if (scope.getStore()?.open !== true) return
      throw new FieldsealError('ERR_WRITE_UNSUPPORTED', {
        operation,
        reason: 'inside-transaction',
        hint: 'it would wait for this very transaction: call it when the transaction has ended',
      })
    },
  }
}
