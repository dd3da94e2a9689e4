import type { CompoundIndexOptions } from '@fieldseal/core/adapter'
import type { EntityMetadata } from 'typeorm'
import { configError } from './column-rules.ts'
import { pathOf } from './entity-model.ts'
import { storedUnique } from './unique-where.ts'

type Compounds = Readonly<Record<string, CompoundIndexOptions>>

/** Compound indexes as core wants them: stored paths in place of property names. Core checks all else. */
export function storedCompounds(compounds: Compounds, root: EntityMetadata): Compounds {
  if (typeof compounds !== 'object' || compounds === null || Array.isArray(compounds)) return compounds
  return Object.fromEntries(Object.entries(compounds).map(([id, options]) => [id, stored(id, options, root)]))
}

function stored(id: string, options: CompoundIndexOptions, root: EntityMetadata): CompoundIndexOptions {
  if (typeof options !== 'object' || options === null) return options
  const pathOfProperty = (property: string): string => {
    const column = root.findColumnWithPropertyPath(property)
    if (column !== undefined) return pathOf(column)
    throw configError(
      root,
      property,
      `compoundIndexes.${id}: no column for this property`,
      'name properties of the entity',
    )
  }
  const { of, unique, normalize } = options
  return {
    ...options,
    ...(Array.isArray(of) && { of: of.map(pathOfProperty) }),
    ...(typeof unique === 'object' && unique !== null && { unique: storedUnique(unique, root) }),
    ...(typeof normalize === 'object' &&
      normalize !== null && {
        normalize: Object.fromEntries(Object.entries(normalize).map(([name, by]) => [pathOfProperty(name), by])),
      }),
  }
}
