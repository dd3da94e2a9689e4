import { soughtToken } from '../blind-index/live-tokens.ts'
import { FieldsealError } from '../errors/fieldseal-error.ts'
import { withLiveKeys } from '../keyring/with-live-keys.ts'
import type { OperationContext } from '../tenant/tenant-context.ts'
import { built } from './blind-index-of-model.ts'
import { indexBatch } from './index-batch.ts'
import { openBatch, type OpenDeps } from './open-batch.ts'
import type { IndexToken, RecordCipher, TokenTerm } from './ports.ts'
import { sealBatch, type SealDeps } from './seal-batch.ts'

/** Rows of cells ⇄ envelopes and tokens. */
export function createRecordCipher(deps: SealDeps & OpenDeps): RecordCipher {
  async function lookUpTokens(
    { index, values }: TokenTerm,
    { tenant }: OperationContext,
    via: unknown,
  ): Promise<readonly IndexToken[]> {
    if (typeof tenant !== 'string' && !index.acrossTenants) {
      throw new FieldsealError('ERR_QUERY_UNSUPPORTED', {
        model: index.model,
        field: index.id,
        reason: 'system-context',
        hint: 'its index key belongs to one tenant: call inside runAs({ tenant })',
      })
    }
    if (index.matchKey(values) === null) return [] // before any key is asked for
    const { description } = built.index(index)
    const owner = typeof tenant === 'string' ? tenant : ''
    // Before anything is encrypted a query needs no key; afterwards one may be an upsert, which stores what it looks for.
    const live = index.fields.some(({ state }) => state === 'plaintext')
      ? await deps.indexKeys.known(owner, description, via)
      : await deps.indexKeys.live(owner, description, 'read', via)
    if (live.length === 0) return []
    const token = soughtToken(live, values, description)
    return token === undefined ? [] : [token]
  }

  return {
    seal: (rows, context, via) => withLiveKeys(() => sealBatch(rows, context, via, deps)),
    index: (rows, context, via) => withLiveKeys(() => indexBatch(rows, context, via, deps)),
    open: (rows, context, via) => withLiveKeys(() => openBatch(rows, context, via, deps)),
    tokens: (terms, context, via) =>
      withLiveKeys(() => Promise.all(terms.map((term) => lookUpTokens(term, context, via)))),
  }
}
