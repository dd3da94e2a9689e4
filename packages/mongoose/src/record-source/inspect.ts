import { isDeepStrictEqual } from 'node:util'
import type { Schema } from 'mongoose'
import { isDoc, type Doc } from '../bson/documents.ts'
import { tripwireOf } from '../guard/json-schema-tripwire.ts'
import type { CollectionState } from '../install/collection-state.ts'
import { touchesEncrypted } from '../path-graph/walk-path.ts'
import { KEYS_PATH } from '../path-graph/stored-model.ts'
import { toArray } from './to-array.ts'

const NO_SUCH_COLLECTION = 26

interface IndexedSchema {
  indexes(): [Doc, Doc][]
}

interface Finding {
  readonly problem: string
  readonly fix: string
}

/** What `doctor` tells of a collection; nothing before it exists. */
export async function inspect(state: CollectionState): Promise<readonly Finding[]> {
  const indexes = await indexesOf(state)
  return indexes === undefined ? [] : [...inspectIndexes(state, indexes), ...(await inspectValidator(state))]
}

/** Indexes over tokens and key ids that it lacks or has otherwise. */
function inspectIndexes(state: CollectionState, found: readonly Doc[]): readonly Finding[] {
  const { root } = state.model()
  const expected = new Map<string, Doc>()
  for (const schema of state.schemas)
    for (const [keys, options] of (schema as Schema & IndexedSchema).indexes()) {
      const isOurs = Object.keys(keys).some((path) => path.startsWith(`${KEYS_PATH}.`) || touchesEncrypted(root, path))
      if (isOurs) expected.set(JSON.stringify(keys), options)
    }
  return [...expected].flatMap(([keys, { unique = false, partialFilterExpression }]) => {
    const index = found.find(({ key }) => JSON.stringify(key) === keys)
    const isUnique = (index?.['unique'] ?? false) === unique
    const isFor = index?.['partialFilterExpression']
    if (index !== undefined && isUnique && isDeepStrictEqual(isFor, partialFilterExpression)) return []
    const differs = isUnique ? 'is for other documents' : unique === true ? 'is not unique' : 'is unique'
    const what = index === undefined ? 'is missing' : differs
    return [{ problem: `index ${keys} ${what}`, fix: 'run syncIndexes() of the model' }]
  })
}

async function indexesOf({ raw }: CollectionState): Promise<readonly Doc[] | undefined> {
  try {
    return await toArray(raw.listIndexes({}))
  } catch (error) {
    if (isDoc(error) && error['code'] === NO_SUCH_COLLECTION) return undefined
    throw error
  }
}

/** A tripwire that was made for other encrypted paths. Beside it the validator may say what it likes. */
async function inspectValidator(state: CollectionState): Promise<readonly Finding[]> {
  const { validator } = await state.raw.options()
  const model = state.model()
  const ofOurs = (schema: unknown): Doc => {
    const properties = isDoc(schema) && isDoc(schema['properties']) ? schema['properties'] : {}
    const isOurs = (name: string) => model.root.names.get(name)?.reaches === true || name === KEYS_PATH
    return Object.fromEntries(Object.entries(properties).filter(([name]) => isOurs(name)))
  }
  const wanted = ofOurs(tripwireOf(model).$jsonSchema)
  const accepted = [wanted, withoutAdditional(wanted)]
  const found = [validator, ...(isDoc(validator) && Array.isArray(validator['$and']) ? validator['$and'] : [])]
    .map((each) => ofOurs(isDoc(each) ? each['$jsonSchema'] : undefined))
    .filter((each) => JSON.stringify(each).includes('binData'))
  const isWanted = (each: Doc) => accepted.some((one) => isDeepStrictEqual(each, one))
  if (found.length === 0 || found.some(isWanted)) return []
  return [
    {
      problem: 'its validator is not what jsonSchemaTripwire makes of the model',
      fix: `db.command({ collMod: '${state.name}', validator: jsonSchemaTripwire(Model) })`,
    },
  ]
}

/** The schema for engines that do not know this keyword. */
function withoutAdditional(schema: Doc): Doc {
  const isKnown = (key: string, value: unknown) => (key === 'additionalProperties' ? undefined : value)
  return JSON.parse(JSON.stringify(schema, isKnown)) as Doc
}
