import type { KeyStatus, Status } from '../verbs/status.ts'
import { table } from './table.ts'

/** A status as tables for a terminal. */
export function statusText(status: Status): string {
  const parts = [
    `${status.app}${status.tenant === undefined ? '' : `, tenant ${status.tenant}`}, ${status.at}`,
    table(
      ['tenant', 'keyspace', 'purpose', 'v', 'key', 'state', 'age', 'left', 'rows', 'wrapped by'],
      status.keys.map((key) => [
        key.tenant,
        key.keyspace,
        key.purpose,
        key.version,
        key.id,
        stateOf(key),
        `${key.ageDays} d`,
        key.daysLeft === undefined ? '' : `${key.daysLeft} d`,
        key.purpose === 'index' ? '' : `${key.rowsExact ? '' : '≥ '}${key.rows}`,
        key.wraps.map(({ provider, uri, keyVersion }) => `${provider} ${uri} ${keyVersion ?? ''}`.trim()).join(', '),
      ]),
    ),
    ...(status.subjects.keys === 0
      ? []
      : [
          `and ${status.subjects.keys} keys of ${status.subjects.keyspaces} data subjects, the oldest ${status.subjects.oldestAgeDays ?? 0} days old`,
        ]),
    table(
      ['model', 'rows', 'plaintext', 'field', 'values', 'null', 'plain', 'unreadable'],
      status.models.flatMap(({ model, rows, plaintextRows, fields }) =>
        fields.map((field, i) => [
          i === 0 ? model : '',
          i === 0 ? String(rows) : '',
          i === 0 ? String(plaintextRows) : '',
          field.field,
          field.values,
          field.nulls,
          field.plaintext,
          field.unreadable,
        ]),
      ),
    ),
    table(
      ['index', 'epoch', 'tokens'],
      status.models.flatMap(({ model, indexes }) =>
        indexes.flatMap(({ index, epochs }) =>
          Object.entries(epochs).map(([epoch, tokens]) => [`${model}.${index}`, epoch, tokens]),
        ),
      ),
    ),
    `rewrap: ${status.rewrap.newest} rows under the newest key, ${status.rewrap.older} under older ones${status.rewrap.exact ? '' : ' (sampled)'}`,
    ...status.notes,
  ]
  return `${parts.join('\n\n')}\n`
}

export function stateOf({ state, compromised }: KeyStatus): string {
  return compromised ? `${state}, compromised` : state
}
