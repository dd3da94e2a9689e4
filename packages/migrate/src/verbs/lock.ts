import { appOf, type BlindIndex, FieldsealError } from '@fieldseal/core/adapter'
import type { Surroundings } from '../engine/target.ts'
import type { Finding } from './doctor.ts'

/** What is authenticated with stored data, so that it may not change unnoticed: the content of `fieldseal.lock.json`. */
export interface Lock {
  readonly format: 1
  readonly app: string
  readonly models: Readonly<Record<string, LockedModel>>
}

export interface LockedModel {
  /** Type of each field, by field id. */
  readonly fields: Readonly<Record<string, string>>
  /**
   * Of each blind index, by index id: its bits, and in words the ids of its fields where they are several, and for which
   * rows it is unique where that is not all.
   */
  readonly indexes: Readonly<Record<string, number | string>>
  /** Kind of each key column, by path. */
  readonly rowKey: Readonly<Record<string, string>>
  /** The keyspace of all rows, or the column that names it. */
  readonly keyspace: string
}

/** The ids in use now. Written by `fieldseal lock`, compared by `fieldseal lock --check`. */
export function lockOf({ fieldseal, sources }: Surroundings): Lock {
  const maps = sources.flatMap(({ models }) => models).toSorted((a, b) => (a.id < b.id ? -1 : 1))
  return {
    format: 1,
    app: appOf(fieldseal),
    models: Object.fromEntries(
      maps.map((map) => [
        map.id,
        {
          fields: sorted(map.fields.map(({ id, type }) => [id, type])),
          indexes: sorted(map.indexes.map((index) => [index.id, lockedIndex(index)])),
          rowKey: sorted(map.rowKey.map(({ path, kind }) => [path, kind])),
          keyspace: map.keyspacePath === undefined ? (map.keyspace ?? '') : `per ${map.keyspacePath}`,
        },
      ]),
    ),
  }
}

/** `128`, or `128 of last_name, born unique where deletedAt is null and state is "open"`. */
function lockedIndex({ bits, fields, uniqueWhere }: BlindIndex): number | string {
  const of = fields.length === 1 ? '' : ` of ${fields.map(({ id }) => id).join(', ')}`
  const tests = uniqueWhere.map(({ path, equals }) => `${path} is ${JSON.stringify(equals)}`).sort()
  const where = tests.length === 0 ? '' : ` unique where ${tests.join(' and ')}`
  return of === '' && where === '' ? bits : `${bits}${of}${where}`
}

function sorted<V>(entries: readonly (readonly [string, V])[]): Readonly<Record<string, V>> {
  return Object.fromEntries(entries.toSorted(([a], [b]) => (a < b ? -1 : 1)))
}

/** What differs between the committed lock and the models as they are. @throws FieldsealError ERR_ARGUMENT_INVALID for what is no lock */
export function checkLock(surroundings: Surroundings, committed: unknown): readonly Finding[] {
  const before = checkedLock(committed)
  const now = lockOf(surroundings)
  const findings: Finding[] = []
  const note = (where: string, problem: string, fix: string) =>
    findings.push({ severity: 'error', where, problem, fix })
  if (before.app !== now.app)
    note('app', `was ${before.app}, is ${now.app}`, 'put the name back: keys made under it do not open')
  for (const [id, model] of Object.entries(before.models)) {
    const current = now.models[id]
    if (current === undefined) {
      note(id, 'the model is gone, renamed, or its plugin is missing', `set id: '${id}' before you rename it`)
      continue
    }
    for (const part of ['fields', 'indexes', 'rowKey'] as const)
      for (const [name, value] of Object.entries(model[part])) {
        const found = current[part][name]
        if (found === undefined) note(`${id}.${name}`, `gone from ${part}`, `set id: '${name}' before you rename it`)
        else if (found !== value) note(`${id}.${name}`, `was ${value}, is ${found}`, fixOf(part))
      }
    if (model.keyspace !== current.keyspace)
      note(
        id,
        `its keyspace was ${model.keyspace}, is ${current.keyspace}`,
        'put it back: values do not open elsewhere',
      )
  }
  for (const [id, model] of Object.entries(now.models))
    for (const part of ['fields', 'indexes', 'rowKey'] as const)
      for (const name of Object.keys(model[part]))
        if (before.models[id]?.[part][name] === undefined)
          note(`${id}.${name}`, 'not in the lock file', 'run fieldseal lock and commit the file')
  return findings
}

function fixOf(part: 'fields' | 'indexes' | 'rowKey'): string {
  if (part === 'fields') return 'name the old type under formerTypes, then run fieldseal lock'
  return part === 'indexes'
    ? 'put it back: bits need a reindex first, and a unique index is to be built anew; then run fieldseal lock'
    : 'rebind the rows, then run fieldseal lock'
}

function checkedLock(lock: unknown): Lock {
  const isLock = typeof lock === 'object' && lock !== null && 'format' in lock && lock.format === 1 && 'models' in lock
  if (isLock) return lock as Lock // written by `lockOf`
  throw new FieldsealError('ERR_ARGUMENT_INVALID', { field: 'lock', reason: 'no lock file of this version' })
}
