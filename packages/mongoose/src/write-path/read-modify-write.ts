import type { OperationContext } from '@fieldseal/core/adapter'
import { isDoc, valueAt, type Doc } from '../bson/documents.ts'
import type { CollectionState } from '../install/collection-state.ts'
import type { PathNode } from '../path-graph/path-node.ts'
import type { StoredModel } from '../path-graph/stored-model.ts'
import { plainPathOf } from '../path-graph/walk-path.ts'
import { refuseWrite } from '../query-rewrite/refuse.ts'
import { applyEdit } from './apply-edit.ts'
import { addKeys, Draft, sealDrafts } from './draft.ts'
import { clearOldPlace, clearOtherPlace, type Edit } from './plan-update.ts'
import { arePlain, holdsEnvelope, plainOperators } from './plain-edits.ts'
import { sealValue } from './seal-value.ts'
import { UNCHANGED, type PreparedUpdate, type UpdateRunner } from './prepared-update.ts'
import { writeWhereStill, type Matched } from './write-where-still.ts'

/**
 * An update that needs the present plaintext: the new values are computed here.
 *
 * @returns undefined when the document that was read to learn whose it is has become another's, or is gone
 * @throws FieldsealError ERR_WRITE_UNSUPPORTED as `writeWhereStill`, and for an upsert of a document that does not exist
 */
export async function editMatched<R>(
  state: CollectionState,
  model: StoredModel,
  prepared: PreparedUpdate,
  context: OperationContext,
  runner: UpdateRunner<R>,
): Promise<R | undefined> {
  const { filter, options, edits, demanded, draft } = prepared
  const [first] = edits as readonly [Edit, ...Edit[]]
  const places = edits.flatMap((edit) => plainPathOf(edit, edit.root) ?? [])
  async function insert(): Promise<R> {
    if (!arePlain(edits))
      refuseWrite(
        model.map.id,
        first.root,
        'emulate-upsert',
        `${first.operator} has no value to begin with: set it with $setOnInsert in an upsert of its own`,
      )
    await sealDrafts([draft], state.host, context)
    const made = addKeys(merged(prepared.finish() as Doc, plainOperators(edits)), draft.kekIds)
    return runner.run(except(filter, holdsEnvelope(edits), demanded), made, options)
  }
  return writeWhereStill(state, model, prepared, context, runner, {
    places: [...new Set([...edits.map(({ root }) => root), ...places])],
    async update(matched) {
      const row = new Draft(model, draft.facts)
      const changes = computed(model, edits, matched, row)
      // Cells of the other operators join the same write.
      await sealDrafts([draft, row], state.host, context)
      const own = prepared.finish() as Doc // edits come from operators, never from a pipeline
      const out = addKeys(merged(own, changes), [...draft.kekIds, ...row.kekIds])
      return Object.keys(out).length === 0 ? UNCHANGED : out
    },
    ifNone: options['upsert'] === true ? insert : undefined,
  })
}

/** The operators that bring about what the edits compute. */
function computed(model: StoredModel, edits: readonly Edit[], { document, plaintext }: Matched, row: Draft): Doc {
  const [set, unset, push, pull]: Doc[] = [{}, {}, {}, {}] as const
  const changes: Doc = { $set: set, $unset: unset, $push: push, $pull: pull }
  for (const [root, ofRoot] of Map.groupBy(edits, (edit) => edit.root)) {
    const [{ node, mapKeys, operator }] = ofRoot as [Edit, ...Edit[]]
    const present = valueAt(plaintext, root)
    const value = ofRoot.reduce<unknown>((before, edit) => applyEdit(before, edit, model.map.id), present)
    if (node.field === undefined) {
      // An array of encrypted elements: those that stay keep their bytes.
      const [before, after] = [listOf(present), listOf(value)]
      if (operator === '$addToSet') push[root] = { $each: sealAll(after.slice(before.length), node, mapKeys, row) }
      else pull[root] = { $in: listOf(valueAt(document, root)).filter((_, at) => !after.includes(before[at])) }
    } else if (value === undefined && (!node.field.encryptNull || node.state === 'plaintext')) {
      unset[root] = 1
      clearOldPlace(root, { node }, changes)
    } else {
      sealValue(value ?? null, node, mapKeys, { holder: set, key: root }, row)
      clearOtherPlace(root, { node }, changes)
    }
  }
  return changes
}

function sealAll(values: readonly unknown[], node: PathNode, mapKeys: readonly string[], row: Draft): unknown[] {
  const sealed: unknown[] = []
  values.forEach((value, key) => sealValue(value, node.element ?? node, mapKeys, { holder: sealed, key }, row))
  return sealed
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}

/** Criteria without what meets another condition, and with more of them. */
export function except(filter: Doc, met: Doc, more: readonly Doc[]): Doc {
  return { ...filter, $and: [...((filter['$and'] as unknown[] | undefined) ?? []), { $nor: [met] }, ...more] }
}

/** Two updates of different paths in one; the server refuses an operator without paths. */
export function merged(one: Doc, other: Doc): Doc {
  const operators = [...new Set([...Object.keys(one), ...Object.keys(other)])]
  return Object.fromEntries(
    operators
      .map((operator) => [operator, { ...operands(one, operator), ...operands(other, operator) }] as const)
      .filter(([, paths]) => Object.keys(paths).length > 0),
  )
}

function operands(update: Doc, operator: string): Doc {
  const given = update[operator]
  return isDoc(given) ? given : {}
}
