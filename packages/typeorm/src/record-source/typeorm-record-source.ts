import { FieldsealError, type RecordSource } from '@fieldseal/core/adapter'
import type { DataSource } from 'typeorm'
import { findInstallation } from '../install/installation.ts'
import { createCheckpoints } from './checkpoints.ts'
import { clearTokens } from './clear-tokens.ts'
import { compareAndSet } from './compare-and-set.ts'
import { convert } from './convert.ts'
import { fits, isWhole } from './fits.ts'
import { inspectTable } from './inspect.ts'
import { count, countPlaintext, pages } from './pages.ts'

/**
 * The encrypted rows of a DataSource, for migrations and for the leak oracle of tests. The DataSource must have been
 * given to `withFieldseal` and be initialized before the first use.
 *
 * @throws FieldsealError ERR_CONFIG_INVALID without `withFieldseal`
 */
export function typeormSource(dataSource: DataSource): RecordSource {
  const installation = findInstallation(dataSource)
  if (installation === undefined)
    throw new FieldsealError('ERR_CONFIG_INVALID', {
      field: 'dataSource',
      reason: 'the DataSource was not passed to withFieldseal',
    })
  return {
    get models() {
      return [...new Set(installation.models().models.map(({ map }) => map))]
    },
    checkpoints: createCheckpoints(installation),
    pages: (map, options) => pages(installation, map, options),
    count: (map, what) => count(installation, map, what),
    compareAndSet: (map, patches) => compareAndSet(installation, map, patches),
    clearTokens: (map, keys) => clearTokens(installation, map, keys),
    convert: (map, patches) => convert(installation, map, patches),
    countPlaintext: (map, field) => countPlaintext(installation, map, field),
    fits: (map, field, values) => fits(installation, map, field, values),
    isWhole: (map, field, cells) => isWhole(installation, map, field, cells),
    inspect: (map) => inspectTable(installation, map),
  }
}
