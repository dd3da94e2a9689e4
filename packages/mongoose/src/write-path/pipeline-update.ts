import { isDoc } from '../bson/documents.ts'
import { KEYS_PATH, type StoredModel } from '../path-graph/stored-model.ts'
import { touchesEncrypted, walkPath } from '../path-graph/walk-path.ts'
import { assertPlainExpression } from '../query-rewrite/expressions.ts'
import { refuseWrite } from '../query-rewrite/refuse.ts'

const SETTING: readonly string[] = ['$set', '$addFields']

/**
 * Lets an update pipeline pass that neither reads nor writes an encrypted path, nor what says whose document it is.
 *
 * @throws FieldsealError ERR_WRITE_UNSUPPORTED, ERR_QUERY_UNSUPPORTED
 */
export function assertPlainPipeline(stages: readonly unknown[], { map, root, facts }: StoredModel): void {
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
          const { inside } = walkPath(root, path)
          if (inside !== undefined) refuse(path, 'it lies inside an encrypted value: unset the whole')
        }
      } else refuse('', `${operator} may move encrypted values: only $set and $unset are understood`)
    }
  }
}
