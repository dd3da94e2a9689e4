import { isDoc, isOperators, plain, setKey, valueAt, type Doc } from '../bson/documents.ts'
import { isSameBson } from '../bson/equal.ts'
import { compute as computed, numeric, PRODUCT, SUM } from '../bson/numbers.ts'
import { refuseWrite } from '../query-rewrite/refuse.ts'
import type { Edit } from './plan-update.ts'

/** As many nulls MongoDB puts before an element set beyond the end of an array. */
const MAX_BACKFILL = 1_500_000
/** Operators that make nothing where nothing is. */
const REMOVING: readonly string[] = ['$unset', '$pop', '$pull', '$pullAll']

/**
 * What an update operator makes of a decrypted value, as MongoDB would: the new value, undefined to remove it.
 *
 * @throws FieldsealError ERR_WRITE_UNSUPPORTED for what is not computed here
 */
export function applyEdit(value: unknown, edit: Edit, model: string): unknown {
  const box: Doc = { v: value }
  let holder: Doc | unknown[] = box
  let key = 'v'
  for (const name of edit.rest) {
    if (name.startsWith('$')) refuse(edit, model, 'a positional operator inside an encrypted value')
    let next = own(holder, key)
    if ((next === undefined || next === null) && REMOVING.includes(edit.operator)) return value
    if (next === undefined) put(holder, key, (next = {}))
    if (!isDoc(next) && !Array.isArray(next)) refuse(edit, model, 'the path leads into a value that is no container')
    holder = next as Doc | unknown[]
    key = name
    if (Array.isArray(holder) && !(/^\d+$/.test(key) && Number(key) - holder.length <= MAX_BACKFILL))
      refuse(edit, model, 'no place in an array')
  }
  const present = own(holder, key)
  if (present === undefined && REMOVING.includes(edit.operator)) return value
  const result = compute(present, edit, model)
  if (result !== undefined) put(holder, key, result)
  else if (Array.isArray(holder)) put(holder, key, null)
  else Reflect.deleteProperty(holder, key)
  return box['v']
}

/** Only what a container holds itself: a path may name what every object inherits. */
function own(holder: Doc | unknown[], key: string): unknown {
  return Object.hasOwn(holder, key) ? Reflect.get(holder, key) : undefined
}

function put(holder: Doc | unknown[], key: string, value: unknown): void {
  if (Array.isArray(holder)) holder[Number(key)] = value
  else setKey(holder, key, value)
}

function compute(present: unknown, edit: Edit, model: string): unknown {
  const operand = plain(edit.operand)
  switch (edit.operator) {
    case '$set':
      return operand ?? null
    case '$unset':
      return undefined
    case '$inc':
    case '$mul':
      return arithmetic(present, operand, edit, model)
    case '$min':
    case '$max':
      return extreme(present, operand, edit, model)
    case '$push':
      return pushed(listOf(present, edit, model), operand, edit, model)
    case '$addToSet': {
      const list = listOf(present, edit, model)
      for (const value of eachOf(operand)) if (!list.some((known) => isSameBson(known, value))) list.push(value)
      return list
    }
    case '$pullAll':
      return listOf(present, edit, model).filter(
        (known) => !listOf(operand, edit, model).some((value) => isSameBson(known, value)),
      )
    case '$pull':
      return listOf(present, edit, model).filter((known) =>
        isDoc(operand) || operand instanceof RegExp
          ? !isPulled(known, operand, edit, model)
          : !isSameBson(known, operand),
      )
    case '$pop': {
      const list = listOf(present, edit, model)
      return Number(operand) < 0 ? list.slice(1) : list.slice(0, -1)
    }
    default:
      return refuse(edit, model, `${edit.operator} is not computed on encrypted values`)
  }
}

function arithmetic(present: unknown, operand: unknown, edit: Edit, model: string): unknown {
  const isSum = edit.operator === '$inc'
  if (numeric(operand) === undefined) refuse(edit, model, 'numbers only')
  if (present === undefined) return isSum ? operand : computed(operand, 0, PRODUCT)
  return computed(present, operand, isSum ? SUM : PRODUCT) ?? refuse(edit, model, 'numbers of at most 64 bits only')
}

function extreme(present: unknown, operand: unknown, edit: Edit, model: string): unknown {
  if (present === undefined) return operand
  const areDates = present instanceof Date && operand instanceof Date
  const [one, other] = areDates ? [present.getTime(), operand.getTime()] : [numeric(present), numeric(operand)]
  if (one === undefined || other === undefined) return refuse(edit, model, 'numbers and dates only')
  const takes = edit.operator === '$min' ? other < one : other > one
  return takes ? operand : present
}

function pushed(list: unknown[], operand: unknown, edit: Edit, model: string): unknown[] {
  const modifiers = isDoc(operand) && '$each' in operand ? operand : {}
  if (modifiers['$sort'] !== undefined) refuse(edit, model, '$sort inside an encrypted value')
  const position = modifiers['$position']
  list.splice(position === undefined ? list.length : Number(position), 0, ...eachOf(operand))
  const slice = modifiers['$slice']
  if (slice === undefined) return list
  const count = Number(slice)
  return count < 0 ? list.slice(count) : list.slice(0, count)
}

function isPulled(known: unknown, condition: unknown, edit: Edit, model: string): boolean {
  if (condition instanceof RegExp) return refuse(edit, model, '$pull by equality and $in only')
  if (isOperators(condition)) {
    const { $in, ...others } = condition as { readonly $in?: unknown }
    if (!Array.isArray($in) || Object.keys(others).length > 0)
      return refuse(edit, model, '$pull by equality and $in only')
    return $in.some((value) => meets(known, value))
  }
  if (!isDoc(condition)) return meets(known, condition)
  return (
    isDoc(known) &&
    Object.entries(condition).every(([path, value]) => isPulled(valueAt(known, path), value, edit, model))
  )
}

/** Equality as a condition means it: an array meets what one of its elements meets, and nothing meets null. */
function meets(known: unknown, value: unknown): boolean {
  return isSameBson(known, value) || (Array.isArray(known) && known.some((each) => isSameBson(each, value)))
}

function eachOf(operand: unknown): unknown[] {
  return isDoc(operand) && '$each' in operand ? [...(operand['$each'] as Iterable<unknown>)].map(plain) : [operand]
}

function listOf(present: unknown, edit: Edit, model: string): unknown[] {
  if (present === undefined) return []
  return Array.isArray(present) ? [...(present as unknown[])] : refuse(edit, model, 'the value is no array')
}

function refuse(edit: Edit, model: string, hint: string): never {
  return refuseWrite(
    model,
    edit.root,
    'needs-emulation',
    `${edit.operator}: ${hint}; read, change and save the document`,
  )
}
