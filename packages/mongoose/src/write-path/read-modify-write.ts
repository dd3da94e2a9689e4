import type { OperationContext } from '@fieldseal/core/adapter'
import { AS_STORED } from '../bson/bson-codec.ts'
import { deepCopyOf, isDoc, valueAt, type Doc } from '../bson/documents.ts'
import type { CollectionState } from '../install/collection-state.ts'
import type { PathNode } from '../path-graph/path-node.ts'
import type { StoredModel } from '../path-graph/stored-model.ts'
import { isPosition, plainPathOf } from '../path-graph/walk-path.ts'
import { refuseWrite } from '../query-rewrite/refuse.ts'
import { comparesByCollation } from '../query-rewrite/scope.ts'
import { factsOf } from '../read-path/collect-rows.ts'
import { openDocuments } from '../read-path/open-documents.ts'
import { applyEdit } from './apply-edit.ts'
import { addKeys, Draft, sealDrafts } from './draft.ts'
import { clearOldPlace, clearOtherPlace, type Edit } from './plan-update.ts'
import { arePlain, holdsEnvelope, plainOperators } from './plain-edits.ts'
import { sealValue } from './seal-value.ts'
import {
  MAX_ATTEMPTS,
  NOTHING,
  optionsOfNothing,
  readOptions,
  UNCHANGED,
  type PreparedUpdate,
  type UpdateRunner,
} from './prepared-update.ts'
import { isStill } from './still.ts'
import { isByBytes, pinTo } from './update-facts.ts'

/**
 * An update that needs the present plaintext: reads the document, computes the new values here, and writes them where
 * the encrypted ones are still those that were read. Another writer in between means: once more.
 *
 * @returns undefined when the document that was read to learn whose it is has become another's, or is gone
 * @throws FieldsealError ERR_WRITE_UNSUPPORTED for an upsert of a document that does not exist, and when others kept
 * writing the same values through 20 attempts
 */
export async function editMatched<R>(
  state: CollectionState,
  model: StoredModel,
  prepared: PreparedUpdate,
  context: OperationContext,
  runner: UpdateRunner<R>,
): Promise<R | undefined> {
  const { filter, options, edits, draft } = prepared
  const roots = [...new Set(edits.map(({ root }) => root))]
  const [first] = edits as readonly [Edit, ...Edit[]]
  const places = [...roots, ...new Set(edits.flatMap((edit) => plainPathOf(edit, edit.root) ?? []))]
  const projection = projectionOf([...model.facts.map(({ path }) => path), ...places])
  for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
    const found = await state.raw.findOne(filter, { ...readOptions(options), projection })
    if (found === null) {
      if (prepared.known) return undefined
      if (options['upsert'] === true && arePlain(edits)) {
        await sealDrafts([draft], state.host, context)
        const made = addKeys(merged(prepared.finish() as Doc, plainOperators(edits)), draft.kekIds)
        return runner.run(except(filter, holdsEnvelope(edits)), made, options)
      }
      if (options['upsert'] === true)
        refuseWrite(
          model.map.id,
          first.root,
          'emulate-upsert',
          `${first.operator} has no value to begin with: set it with $setOnInsert in an upsert of its own`,
        )
      return runner.run(NOTHING, UNCHANGED, optionsOfNothing(options))
    }
    const document: Doc = found
    const still = Object.fromEntries(places.map((path) => [path, isStill(document, path)]))
    const facts = factsOf(document, model, context)
    const bound = isByBytes(model.id, comparesByCollation(state, options))
    const row = new Draft(model, bound ? facts : { ...facts, rowId: undefined })
    const changes = await computed(state, model, prepared, document, row, context)
    // Cells of the other operators join the same write.
    draft.facts = row.facts
    await sealDrafts([draft, row], state.host, context)
    const own = prepared.finish() as Doc // edits come from operators, never from a pipeline
    const out = addKeys(merged(own, changes), [...draft.kekIds, ...row.kekIds])
    const confined = pinTo(filter, document, model)
    const guarded = { ...confined, $and: [...((confined['$and'] as unknown[] | undefined) ?? []), still] }
    const sent = Object.keys(out).length === 0 ? UNCHANGED : out
    const result = await runner.run(guarded, sent, { ...options, upsert: false })
    if (runner.matched(result) > 0) return result
  }
  return refuseWrite(
    model.map.id,
    first.root,
    'emulate-contention',
    `others kept changing it through ${MAX_ATTEMPTS} attempts: try again later`,
  )
}

/** Arrays are projected whole: an index in a path of a projection is the name of a path. */
function projectionOf(paths: readonly string[]): Doc {
  const whole = paths.map((path) => {
    const names = path.split('.')
    const position = names.findIndex(isPosition)
    return position === -1 ? path : names.slice(0, position).join('.')
  })
  const outermost = whole.filter((path) => !whole.some((other) => path.startsWith(`${other}.`)))
  return Object.fromEntries(outermost.map((path) => [path, 1]))
}

/** The operators that bring about what the edits compute. */
async function computed(
  state: CollectionState,
  model: StoredModel,
  { edits }: PreparedUpdate,
  document: Doc,
  row: Draft,
  context: OperationContext,
): Promise<Doc> {
  const opening = {
    host: state.host,
    context: { ...context, onUnreadable: 'throw' as const }, // nothing is computed from a sentinel
    root: model.root,
    promote: AS_STORED,
    sought: new Map(),
    writer: undefined,
    whole: false,
  }
  const [plaintext = {}] = await openDocuments([deepCopyOf(document) as Doc], opening)
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

/** Criteria without what meets another condition. */
export function except(filter: Doc, met: Doc): Doc {
  return { ...filter, $and: [...((filter['$and'] as unknown[] | undefined) ?? []), { $nor: [met] }] }
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
