import type { BlindIndex, Field } from '@fieldseal/core/adapter'
import { isDoc, type Doc } from '../bson/documents.ts'
import { compoundLeaf, compoundPath, compoundsOf } from '../path-graph/compound-paths.ts'
import type { StoredModel } from '../path-graph/stored-model.ts'
import { refuseWrite } from '../query-rewrite/refuse.ts'
import type { Draft } from './draft.ts'
import type { UpdatePlan } from './plan-update.ts'

/** What an update does to the tokens of an index over several paths. */
export interface CompoundWrite {
  readonly index: BlindIndex
  readonly operator: '$set' | '$setOnInsert' | '$unset'
}

export interface CompoundPlan {
  readonly writes: readonly CompoundWrite[]
  /** Fields that the update leaves as they are, and whose values its tokens are made of as well. */
  readonly missing: readonly Field[]
}

interface UpdateKind {
  readonly upsert: boolean
  readonly kind: 'one' | 'many'
  /** Indexes that the filter asks: what it demands is stored by an upsert. */
  readonly asked: ReadonlySet<BlindIndex>
}

/**
 * Plans the tokens of several paths together. An update that writes some of them needs what the document has at the
 * others.
 *
 * @throws FieldsealError ERR_WRITE_UNSUPPORTED where that cannot be known
 */
export function planCompounds(
  { update, edits }: UpdatePlan,
  model: StoredModel,
  draft: Draft,
  { upsert, kind, asked }: UpdateKind,
): CompoundPlan {
  const writes: CompoundWrite[] = []
  const missing = new Set<Field>()
  for (const index of compoundsOf(model)) {
    const refuse = (hint: string): never => refuseWrite(model.map.id, index.id, 'compound-index', hint)
    const all = index.fields.map(({ path }) => path).join(', ')
    const paths = touchedBy(update, index)
    if (Array.isArray(update)) {
      if (paths.size > 0) refuse('a pipeline cannot compute its tokens: use update operators')
      continue
    }
    if (edits.some(({ root }) => index.fields.some(({ path }) => path === root)))
      refuse(`its tokens are made of whole values: $set ${all}`)
    if ([...paths.values()].flat().some((operator) => !WRITING.includes(operator)))
      refuse(`its tokens are made of whole values: $set ${all}`)
    const twice = [...paths].find(([, operators]) => operators.length > 1)
    if (twice !== undefined)
      // most servers refuse it
      refuseWrite(model.map.id, twice[0], 'update-conflict', `${twice[1].join(' and ')} are about one path`)
    const isNamed = (path: string, operator: string) => paths.get(path)?.includes(operator) === true
    const given = (operator: string) =>
      index.fields.filter(({ path }) => isNamed(path, operator) && isSealed(path, draft))
    const [set, inserted] = [given('$set'), given('$setOnInsert')]
    const cleared = index.fields.some(
      (field) => (isNamed(field.path, '$set') && !set.includes(field)) || isNamed(field.path, '$unset'),
    )
    if (cleared) writes.push({ index, operator: '$unset' })
    else if (set.length === index.fields.length) writes.push({ index, operator: '$set' })
    else if (set.length > 0) {
      if (upsert) refuse(`the document may be there already, or not: $set all of ${all} in an upsert`)
      if (kind === 'many') refuse(`each document would need its own token: $set all of ${all}, or update one at a time`)
      if (edits.length > 0) refuse(`write ${all} in an update of its own: the others need what is stored, too`)
      writes.push({ index, operator: '$set' })
      for (const field of index.fields) if (!set.includes(field)) missing.add(field)
    } else if (inserted.length === index.fields.length) writes.push({ index, operator: '$setOnInsert' })
    else if (upsert && asked.has(index))
      refuse(`a new document would have the token that the filter looks for without its values: set all of ${all}`)
  }
  return { writes, missing: [...missing] }
}

const WRITING: readonly string[] = ['$set', '$setOnInsert', '$unset']

/** Paths of an index that an update names, or what holds them, and the operators that do. */
function touchedBy(update: UpdatePlan['update'], { fields }: BlindIndex): ReadonlyMap<string, readonly string[]> {
  const found = new Map<string, readonly string[]>()
  for (const [operator, operands] of (Array.isArray(update) ? update : [update]).flatMap(entriesOf)) {
    const written = isDoc(operands) ? Object.keys(operands) : [operands].flat().map(String)
    // A connection is told whether undefined is null or nothing at all.
    const named = (each: string) => (isDoc(operands) && operands[each] === undefined ? 'undefined' : operator)
    for (const { path } of fields) {
      const meeting = written.filter((each) => path === each || path.startsWith(`${each}.`))
      const below = written.filter((each) => each.startsWith(`${path}.`))
      const own = [...meeting.map(named), ...below.map(() => 'below')]
      if (own.length > 0) found.set(path, [...(found.get(path) ?? []), ...own])
    }
  }
  return found
}

function entriesOf(value: unknown): [string, unknown][] {
  return isDoc(value) ? Object.entries(value) : []
}

/** Whether a value goes there, not null. */
function isSealed(path: string, { cells }: Draft): boolean {
  return cells.some(({ field }) => field.path === path)
}

/** The update with the tokens of its sealed draft. */
export function withCompounds(update: Doc, writes: readonly CompoundWrite[], draft: Draft): Doc {
  let out = update
  for (const { index, operator } of writes) {
    const leaf = operator === '$unset' ? undefined : compoundLeaf(draft.compounds.get(index))
    const [as, operand] = leaf === undefined ? (['$unset', 1] as const) : ([operator, leaf] as const)
    out = { ...out, [as]: { ...(out[as] as Doc | undefined), [compoundPath(index)]: operand } }
  }
  return out
}
