import { isSameBson } from '../bson/equal.ts'
import { toCoreValue } from '../bson/driver-values.ts'
import { isDoc, isOperators, plain, type Doc } from '../bson/documents.ts'
import { refuseWrite } from '../query-rewrite/refuse.ts'
import type { Edit } from './plan-update.ts'

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
    let next: unknown = Reflect.get(holder, key)
    if (next === undefined || next === null) {
      next = {}
      Reflect.set(holder, key, next)
    }
    if (!isDoc(next) && !Array.isArray(next)) refuse(edit, model, 'the path leads into a value that is no container')
    holder = next as Doc | unknown[]
    key = name
  }
  const present = Object.hasOwn(holder, key) ? (Reflect.get(holder, key) as unknown) : undefined
  const result = compute(present, edit, model)
  if (result !== undefined) Reflect.set(holder, key, result)
  else if (Array.isArray(holder)) Reflect.set(holder, key, null)
  else Reflect.deleteProperty(holder, key)
  return box['v']
}

function compute(present: unknown, edit: Edit, model: string): unknown {
  const operand = plain(edit.operand)
  switch (edit.operator) {
    case '$set':
      return operand
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
      return listOf(present, edit, model).filter((known) => !eachOf(operand).some((value) => isSameBson(known, value)))
    case '$pull':
      return listOf(present, edit, model).filter((known) => !isPulled(known, operand, edit, model))
    case '$pop': {
      const list = listOf(present, edit, model)
      return Number(operand) < 0 ? list.slice(1) : list.slice(0, -1)
    }
    default:
      return refuse(edit, model, `${edit.operator} is not computed on encrypted values`)
  }
}

function arithmetic(present: unknown, operand: unknown, edit: Edit, model: string): unknown {
  if (edit.node.field?.type === 'bigint' && edit.rest.length === 0) {
    const [one, other] = [toCoreValue('bigint', present ?? 0), toCoreValue('bigint', operand)]
    if (typeof one !== 'bigint' || typeof other !== 'bigint') return refuse(edit, model, 'whole numbers only')
    return edit.operator === '$inc' ? one + other : one * other
  }
  const [one, other] = [toCoreValue('number', present ?? 0), toCoreValue('number', operand)]
  if (typeof one !== 'number' || typeof other !== 'number') return refuse(edit, model, 'numbers only')
  return edit.operator === '$inc' ? one + other : one * other
}

function extreme(present: unknown, operand: unknown, edit: Edit, model: string): unknown {
  if (present === undefined || present === null) return operand
  const [one, other] = [ordered(present), ordered(operand)]
  if (one === undefined || typeof one !== typeof other) return refuse(edit, model, 'numbers and dates only')
  const takes = edit.operator === '$min' ? (other as number) < one : (other as number) > one
  return takes ? operand : present
}

function ordered(value: unknown): number | undefined {
  if (value instanceof Date) return value.getTime()
  const number = toCoreValue('number', value)
  return typeof number === 'number' ? number : undefined
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

function isPulled(known: unknown, operand: unknown, edit: Edit, model: string): boolean {
  if (!isDoc(operand)) return isSameBson(known, operand)
  if (isOperators(operand)) {
    const { $in, ...others } = operand as { readonly $in?: unknown }
    if (!Array.isArray($in) || Object.keys(others).length > 0)
      return refuse(edit, model, '$pull by equality and $in only')
    return $in.some((value) => isSameBson(known, value))
  }
  return (
    isDoc(known) &&
    Object.entries(operand).every(([name, value]) =>
      isOperators(value) ? isPulled(known[name], value, edit, model) : isSameBson(known[name], value),
    )
  )
}

function eachOf(operand: unknown): unknown[] {
  if (Array.isArray(operand)) return [...(operand as unknown[])]
  return isDoc(operand) && '$each' in operand ? [...(operand['$each'] as Iterable<unknown>)].map(plain) : [operand]
}

function listOf(present: unknown, edit: Edit, model: string): unknown[] {
  if (present === undefined || present === null) return []
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
