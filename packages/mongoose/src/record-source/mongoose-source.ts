import { FieldsealError, type RecordMap, type RecordSource } from '@fieldseal/core/adapter'
import type { Connection } from 'mongoose'
import type { CollectionState } from '../install/collection-state.ts'
import { stateOf } from '../install/intercept.ts'
import { createCheckpoints } from './checkpoints.ts'
import { clearTokens } from './clear-tokens.ts'
import { convert } from './convert.ts'
import { inspect } from './inspect.ts'
import { fits, isWhole } from './fits.ts'
import { count, countPlaintext, pages } from './pages.ts'

/**
 * The encrypted documents of a connection, for migrations and for the leak oracle of tests. Its models must have been
 * made before.
 *
 * @throws FieldsealError ERR_CONFIG_INVALID for a connection without an encrypted model
 */
export function mongooseSource(connection: Connection): RecordSource {
  const states = () => Object.values(connection.collections).flatMap((each) => stateOf(each) ?? [])
  const find = (map: RecordMap): CollectionState => {
    const state = states().find((each) => each.model().map.id === map.id)
    if (state === undefined)
      throw new FieldsealError('ERR_ARGUMENT_INVALID', { model: map.id, reason: 'not a model of this connection' })
    return state
  }
  if (states().length === 0)
    throw new FieldsealError('ERR_CONFIG_INVALID', {
      field: 'connection',
      reason: 'it has no encrypted model',
      hint: 'give the schemas the plugin, and make the models, before the source',
    })
  return {
    get models() {
      return states().map((state) => state.model().map)
    },
    checkpoints: createCheckpoints(connection),
    pages: (map, options) => pages(find(map), options),
    count: (map, what) => count(find(map), what),
    compareAndSet: (map, patches) => find(map).writer.compareAndSet(map, patches),
    convert: (map, patches) => convert(find(map), patches),
    countPlaintext: (map, field) => countPlaintext(find(map), field),
    fits: async (_map, _field, values) => values.map(fits),
    isWhole: async (_map, _field, cells) => cells.map(isWhole),
    inspect: (map) => inspect(find(map)),
    clearTokens: (map, keys) => clearTokens(find(map), keys),
  }
}
