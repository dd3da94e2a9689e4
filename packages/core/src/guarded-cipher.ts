import type { Internals } from './internals.ts'
import type { RecordCipher } from './record/ports.ts'
import type { OperationContext } from './tenant/tenant-context.ts'

/**
 * The cipher as adapters get it: closed with its Fieldseal, under the caller's context, for the audit trail, and in a
 * system context only once the trail has its entry.
 */
export function guardedCipher(internals: Internals): RecordCipher {
  const { cipher, scope, cellAudit } = internals

  async function under<R>(
    operation: 'decrypt' | 'encrypt' | 'look-up',
    context: OperationContext,
    work: () => Promise<R>,
  ): Promise<R> {
    internals.assertOpen()
    if (context.admitted !== undefined) await context.admitted
    return scope.run(context, async () => {
      try {
        return await work()
      } catch (error) {
        cellAudit.refused(operation, error)
        throw error
      }
    })
  }

  return {
    seal: (rows, context, via) => under('encrypt', context, () => cipher.seal(rows, context, via)),
    index: (rows, context, via) => under('encrypt', context, () => cipher.index(rows, context, via)),
    open: (rows, context, via) => under('decrypt', context, () => cipher.open(rows, context, via)),
    tokens: (terms, context, via) => under('look-up', context, () => cipher.tokens(terms, context, via)),
  }
}
