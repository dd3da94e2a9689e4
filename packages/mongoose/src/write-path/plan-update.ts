import { copyAsStored } from '../bson/bson-codec.ts'
import { copyOf, isDoc, isOperators, plain, setKey, type Doc } from '../bson/documents.ts'
import type { PathNode } from '../path-graph/path-node.ts'
import { KEYS_PATH, type StoredModel } from '../path-graph/stored-model.ts'
import { plainPathOf, touchesEncrypted, walkPath, type Walked } from '../path-graph/walk-path.ts'
import { refuseOldPlace, refuseWrite } from '../query-rewrite/refuse.ts'
import { findToken, rewriteFilter, type FilterScope } from '../query-rewrite/rewrite-filter.ts'
import { assertSortable } from '../query-rewrite/rewrite-projection.ts'
import type { Draft } from './draft.ts'
import { plainPipeline } from './pipeline-update.ts'
import { sealValue } from './seal-value.ts'

/** An operator whose result depends on the plaintext that an encrypted path has now. */
export interface Edit {
  readonly node: PathNode
  /** Path of the encrypted value. */
  readonly root: string
  readonly mapKeys: readonly string[]
  readonly operator: string
  /** Names below the encrypted value; empty when the operator is about the value itself. */
  readonly rest: readonly string[]
  readonly operand: unknown
}

/** An update as it may be sent, once its draft is sealed. */
export interface UpdatePlan {
  readonly update: Doc | readonly unknown[]
  readonly edits: readonly Edit[]
}

const EDITS: readonly string[] = [
  '$set',
  '$unset',
  '$inc',
  '$mul',
  '$min',
  '$max',
  '$push',
  '$addToSet',
  '$pull',
  '$pullAll',
  '$pop',
]

interface Planning {
  readonly model: StoredModel
  readonly draft: Draft
  readonly scope: FilterScope
  readonly out: Doc
  readonly edits: Edit[]
}

/**
 * Splits an update into what can be sent with ciphertext in place of plaintext and what needs the present plaintext. The
 * given one is left as it is.
 *
 * @throws FieldsealError ERR_WRITE_UNSUPPORTED for what ciphertext cannot do
 */
export function planUpdate(given: unknown, model: StoredModel, draft: Draft, scope: FilterScope): UpdatePlan {
  const { map, root } = model
  if (Array.isArray(given)) {
    return { update: plainPipeline(copyAsStored(given), model), edits: [] }
  }
  if (!isDoc(given) || Object.keys(given).some((key) => !key.startsWith('$')))
    return refuseWrite(map.id, '', 'replacement-as-update', 'an update has operators: use replaceOne for a document')
  const planning: Planning = { model, draft, scope, out: {}, edits: [] }
  for (const [operator, each] of Object.entries(given)) {
    const operands = plain(each)
    if (!isDoc(operands)) refuseWrite(map.id, '', 'unsupported-op', `${operator} needs an object of paths`)
    for (const [path, operand] of Object.entries(operands)) {
      assertOwnPath(path, model)
      planOperator(operator, path, operand, walkPath(root, path), planning)
    }
  }
  assertApart(given, planning)
  return { update: planning.out, edits: planning.edits }
}

/** The server refuses two operators on one path. What is computed here reaches it as one, so it is refused here. */
function assertApart(given: Doc, { model, edits }: Planning): void {
  const written = Object.values(given).flatMap((operands) => Object.keys(plain(operands) as Doc))
  for (const { root, rest, operator } of edits) {
    const path = [root, ...rest].join('.')
    const meeting = written.filter((other) => `${path}.`.startsWith(`${other}.`) || other.startsWith(`${path}.`))
    if (meeting.length > 1)
      refuseWrite(model.map.id, root, 'update-conflict', `${operator} and another operator are about one path`)
  }
}

function assertOwnPath(path: string, { map }: StoredModel): void {
  if (path === KEYS_PATH || path.startsWith(`${KEYS_PATH}.`))
    refuseWrite(map.id, path, 'reserved', 'the name belongs to Fieldseal')
}

function planOperator(operator: string, path: string, operand: unknown, walked: Walked, planning: Planning): void {
  const { model, out } = planning
  const { node, inside } = walked
  const refuse = (reason: string, hint: string) => refuseWrite(model.map.id, path, reason, hint)
  const keep = () => put(out, operator, path, operand)
  const { plainOf } = inside?.node ?? node ?? {}
  if (plainOf !== undefined) refuseOldPlace(model.map.id, path, plainOf, refuseWrite)
  if (inside !== undefined) return addEdit(operator, operand, inside.node, inside.path, inside.rest, walked, planning)
  if (operator === '$rename') {
    assertOwnPath(String(operand), model)
    if (node?.conceals === true || touchesEncrypted(model.root, String(operand)))
      refuse('rename', 'ciphertext is bound to its path: read the value and write it to the other one')
    return keep()
  }
  if (node === undefined || !node.reaches) return keep()
  // An envelope that is left there is not in the order of values; other operators the server refuses on one.
  const comparesEnvelopes = node.field !== undefined && ['$min', '$max'].includes(operator)
  if (!node.conceals && !comparesEnvelopes) return keep()
  switch (operator) {
    case '$set':
    case '$setOnInsert':
      return sealInto(operator, path, operand, node, walked, planning)
    case '$unset':
      if (node.field?.encryptNull === true && node.state !== 'plaintext')
        return sealInto('$set', path, null, node, walked, planning)
      clearOldPlace(path, walked, out)
      return keep()
    case '$pop':
      return node.field === undefined ? keep() : addEdit(operator, operand, node, path, [], walked, planning)
    case '$push':
      if (node.field !== undefined) return addEdit(operator, operand, node, path, [], walked, planning)
      return planPush(path, operand, node, walked, planning)
    case '$pull':
    case '$pullAll':
      if (node.field === undefined && planPull(operator, path, operand, node, planning)) return
      return addEdit(operator, operand, node, path, [], walked, planning)
    case '$addToSet':
      return addEdit(operator, operand, node, path, [], walked, planning)
    default:
      if (node.field !== undefined) return addEdit(operator, operand, node, path, [], walked, planning)
      return refuse('unsupported-op', `${operator} would meet ciphertext`)
  }
}

function sealInto(
  operator: string,
  path: string,
  value: unknown,
  node: PathNode,
  walked: Walked,
  planning: Planning,
): void {
  const operands = operandsOf(planning.out, operator)
  sealValue(value, node, walked.mapKeys, { holder: operands, key: path }, planning.draft)
  if (operator === '$set') clearOtherPlace(path, walked, planning.out)
}

/** A value that is set at one of its places is taken from the other one. */
export function clearOtherPlace(path: string, walked: Pick<Walked, 'node'>, out: Doc): void {
  if (walked.node?.state !== 'plaintext') clearOldPlace(path, walked, out)
  else if (walked.node.plainName !== undefined && !Object.hasOwn(operandsOf(out, '$set'), path))
    put(out, '$unset', path, 1)
}

export function clearOldPlace(path: string, walked: Pick<Walked, 'node'>, out: Doc): void {
  const old = plainPathOf({ ...walked, inside: undefined }, path)
  if (old !== undefined) put(out, '$unset', old, 1)
}

function planPush(path: string, given: unknown, node: PathNode, { mapKeys }: Walked, planning: Planning): void {
  const { model, draft, out } = planning
  const operand = plain(given)
  const element = node.element ?? node
  const operands = operandsOf(out, '$push')
  if (!isDoc(operand) || !('$each' in operand)) {
    sealValue(operand, element, mapKeys, { holder: operands, key: path }, draft)
    return
  }
  const sort: unknown = operand['$sort']
  if (sort !== undefined && (element.field !== undefined || !isDoc(sort)))
    refuseWrite(
      model.map.id,
      path,
      'sort-on-encrypted',
      'elements compare as ciphertext: sort by plain paths of theirs',
    )
  assertSortable(sort, element, model.map.id)
  const each = [...(operand['$each'] as Iterable<unknown>)]
  const sealed: unknown[] = []
  each.forEach((value, key) => sealValue(value, element, mapKeys, { holder: sealed, key }, draft))
  setKey(operands, path, { ...copyOf(operand), $each: sealed })
}

/** Elements go by their tokens, or by conditions on paths of theirs. False where their plaintext has to be read. */
function planPull(operator: string, path: string, operand: unknown, node: PathNode, { scope, out }: Planning): boolean {
  const element = node.element ?? node
  const { field } = element
  if (field === undefined) {
    const condition = plain(operand)
    if (operator === '$pullAll' || !isDoc(condition)) return false
    put(out, '$pull', path, rewriteFilter(condition, element, scope, true))
    return true
  }
  const values = operator === '$pullAll' ? [...(operand as Iterable<unknown>)] : valuesOf(operand)
  const isFound = field.blindIndex !== undefined && values?.every((value) => value !== null && value !== undefined)
  if (values === undefined || isFound !== true) return false
  const found = values.map((value) => findToken(path, value, field, scope, true))
  const [first] = found
  const condition = first === undefined ? { $in: [] } : { [first.slot]: { $in: found.map(({ token }) => token) } }
  put(out, '$pull', path, condition)
  return true
}

function valuesOf(operand: unknown): readonly unknown[] | undefined {
  if (!isOperators(operand)) return [operand]
  const entries = Object.entries(operand)
  const [operator, value] = entries[0] ?? []
  if (entries.length !== 1) return undefined
  if (operator === '$eq') return [value]
  return operator === '$in' && Array.isArray(value) ? value : undefined
}

function addEdit(
  operator: string,
  operand: unknown,
  node: PathNode,
  root: string,
  rest: readonly string[],
  { mapKeys, positional }: Walked,
  { model, edits }: Planning,
): void {
  if (!EDITS.includes(operator))
    refuseWrite(model.map.id, root, 'unsupported-op', `${operator} needs the server to see the value`)
  if (positional && /(^|\.)\$/.test(root))
    refuseWrite(
      model.map.id,
      root,
      'needs-emulation',
      'which element a positional operator means is known to the server only',
    )
  edits.push({ node, root, mapKeys, operator, rest, operand })
}

function put(out: Doc, operator: string, path: string, operand: unknown): void {
  setKey(operandsOf(out, operator), path, operand)
}

function operandsOf(out: Doc, operator: string): Doc {
  const known = out[operator]
  if (isDoc(known)) return known
  const operands: Doc = {}
  out[operator] = operands
  return operands
}
