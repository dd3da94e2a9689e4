import type { Schema } from 'mongoose'
import { configError } from '../encrypted-path/config-error.ts'
import { plaintextInFilter } from '../guard/check-filter.ts'
import type { PathNode } from './path-node.ts'
import { KEYS_PATH } from './stored-model.ts'
import { touchesEncrypted, walkPath } from './walk-path.ts'

/** What the typings of Mongoose leave out of a schema. */
interface SchemaParts {
  readonly options: {
    readonly discriminatorKey?: string
    readonly versionKey?: string | false
    readonly shardKey?: Readonly<Record<string, unknown>>
    readonly timeseries?: { readonly timeField?: string; readonly metaField?: string }
    readonly capped?: unknown
    readonly encryptionType?: string
  }
  readonly $timestamps?: Readonly<Record<string, unknown>>
  indexes(): [Record<string, unknown>, Record<string, unknown>][]
}

/** Index kinds that read the values they index. */
const ORDERED = [1, -1, '1', '-1', 'asc', 'desc', 'ascending', 'descending']

/** Refuses what no later check could make good. @throws FieldsealError ERR_CONFIG_INVALID naming the path */
export function assertRegistrable(schema: Schema, root: PathNode): void {
  const { options, $timestamps, indexes } = schema as unknown as SchemaParts
  const reserved: readonly (readonly [string, string | false | undefined])[] = [
    ['the _id', '_id'],
    ['the discriminator key', options.discriminatorKey],
    ['the version key', options.versionKey],
    ...Object.keys(options.shardKey ?? {}).map((path) => ['the shard key', path] as const),
    ['the time field', options.timeseries?.timeField],
    ['the meta field', options.timeseries?.metaField],
    ...Object.values($timestamps ?? {}).map((path) => ['a timestamp', String(path)] as const),
  ]
  for (const [what, path] of reserved)
    if (typeof path === 'string' && touchesEncrypted(root, path))
      throw configError(path, 'encrypted', `${what} cannot be encrypted`)
  if (Object.keys(schema.paths).some((path) => path === KEYS_PATH || path.startsWith(`${KEYS_PATH}.`)))
    throw configError(KEYS_PATH, 'path', 'the name is needed for the ids of the keys of a document')
  if (options.encryptionType !== undefined)
    throw configError('', 'encryptionType', "not together with MongoDB's own field-level encryption")
  for (const [keys, indexOptions] of indexes.call(schema)) assertIndex(keys, indexOptions, root)
}

/** @throws FieldsealError ERR_CONFIG_INVALID for an index that would hold ciphertext, or one that blindIndex makes */
function assertIndex(keys: Record<string, unknown>, options: Record<string, unknown>, root: PathNode): void {
  const compared = plaintextInFilter(options['partialFilterExpression'], root)
  if (compared !== undefined)
    throw configError(
      compared,
      'partialFilterExpression',
      'it compares ciphertext',
      'compare plain paths, or say $exists',
    )
  const names = Object.keys(keys)
  for (const path of names) {
    if (!touchesEncrypted(root, path)) continue
    const { node, inside } = walkPath(root, path)
    if (node?.plainOf !== undefined) continue // the index that the old plaintext always had
    if (inside?.rest.length === 1 && ['b', 'n'].includes(inside.rest[0] as string)) continue // tokens, put there by us
    const field = node?.field ?? node?.element?.field
    const annotation = node?.annotation ?? node?.element?.annotation
    const isIndexed = annotation?.options.blindIndex !== undefined && annotation.options.blindIndex !== false
    if (inside !== undefined || (field ?? annotation) === undefined || !isIndexed)
      throw configError(path, 'index', 'an index would hold ciphertext', 'say blindIndex on the path to search for it')
    if (!ORDERED.includes(keys[path] as never) || options['expireAfterSeconds'] !== undefined)
      throw configError(path, 'index', 'only plain ascending and descending indexes hold tokens')
    if (names.length === 1)
      throw configError(
        path,
        'index',
        'its blind index has one already',
        'say blindIndex: { unique: true } on the path',
      )
  }
}
