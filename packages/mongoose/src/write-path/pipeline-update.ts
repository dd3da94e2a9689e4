import { isDoc } from '../bson/documents.ts'
import { KEYS_PATH, type StoredModel } from '../path-graph/stored-model.ts'
import { plainPathOf, touchesEncrypted, walkPath } from '../path-graph/walk-path.ts'
import { assertPlainExpression } from '../query-rewrite/expressions.ts'
import { refuseOldPlace, refuseWrite } from '../query-rewrite/refuse.ts'

const SETTING: readonly string[] = ['$set', '$addFields']

/**
 * Lets an update pipeline pass that neither reads nor writes an encrypted path, nor what says whose document it is.
 *
 * @returns the pipeline, in which a value that is taken away is taken away from all places it may have
 * @throws FieldsealError ERR_WRITE_UNSUPPORTED, ERR_QUERY_UNSUPPORTED
 */
export function plainPipeline(stages: readonly unknown[], { map, root, facts }: StoredModel): readonly unknown[] {
  const refuse = (path: string, hint: string) => refuseWrite(map.id, path, 'pipeline-update', hint)
  const assertKept = (path: string) => {
    if (path === KEYS_PATH || path.startsWith(`${KEYS_PATH}.`)) refuse(path, 'the name belongs to Fieldseal')
    if (facts.some((fact) => `${fact.path}.`.startsWith(`${path}.`) || path.startsWith(`${fact.path}.`)))
      refuse(path, 'it says whose document this is: use $set')
  }
  for (const stage of stages) {
    for (const [operator, operand] of Object.entries(isDoc(stage) ? stage : {})) {
      if (SETTING.includes(operator) && isDoc(operand)) {
        for (const [path, value] of Object.entries(operand)) {
          assertKept(path)
          if (touchesEncrypted(root, path))
            refuse(path, 'a pipeline cannot write an encrypted path: use update operators')
          assertPlainExpression(value, root, map.id, 'an update pipeline')
        }
      } else if (operator === '$unset') {
        for (const path of [operand].flat().map(String)) {
          assertKept(path)
          const { node, inside } = walkPath(root, path)
          const { plainOf } = inside?.node ?? node ?? {}
          if (plainOf !== undefined) refuseOldPlace(map.id, path, plainOf, refuseWrite)
          if (inside !== undefined) refuse(path, 'it lies inside an encrypted value: unset the whole')
          if (node?.field?.encryptNull === true && node.state !== 'plaintext')
            refuse(path, 'a pipeline cannot encrypt the null that is left: use the operator $unset')
        }
      } else refuse('', `${operator} may move encrypted values: only $set and $unset are understood`)
    }
  }
  return stages.map((stage) => {
    const operand = isDoc(stage) ? stage['$unset'] : undefined
    if (operand === undefined) return stage
    const paths = [operand].flat().map(String)
    const old = paths.flatMap((path) => plainPathOf(walkPath(root, path), path) ?? [])
    return old.length === 0 ? stage : { ...(stage as object), $unset: [...paths, ...old] }
  })
}
