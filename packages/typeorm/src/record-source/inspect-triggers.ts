import type { RecordMap } from '@fieldseal/core/adapter'
import type { SealedColumn } from '../entity-map/entity-model.ts'
import type { Installation } from '../install/installation.ts'
import { onPrimary, tableOf } from './table.ts'

interface Trigger {
  readonly name: string
  /** Runs for each row, before it is stored. */
  readonly before: boolean
  readonly source: string
}

/**
 * Triggers that assign an encrypted column, or copy rows as they were while these may hold plaintext. Read from the source
 * of their functions: what a function does through others is not seen.
 */
export async function triggerFindings(
  installation: Installation,
  map: RecordMap,
): Promise<readonly { readonly problem: string; readonly fix: string }[]> {
  const table = tableOf(installation, map)
  const triggers = await onPrimary(installation, (query) =>
    query(
      `SELECT t.tgname AS name, t.tgtype & 67 = 3 AS before, p.prosrc AS source
       FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
       WHERE t.tgrelid = to_regclass($1) AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A') AND t.tgtype & 20 <> 0
       ORDER BY t.tgname`,
      [table.name],
    ),
  )
  const plain = table.columns.filter(({ field, plain: old }) => field.state !== 'encrypted' && old !== undefined)
  return (triggers as unknown as readonly Trigger[]).flatMap(({ name, before, source }) => {
    const code = source.replaceAll(/--.*$|\/\*[^]*?\*\//gm, ' ')
    const assigned = before ? table.columns.filter(({ envelope }) => assigns(code, envelope.databaseName)) : []
    return [
      ...assigned.map(({ field, envelope }) => ({
        problem: `trigger ${name} assigns ${envelope.databaseName}: an envelope of ${field.path} that it alters never opens again`,
        fix: `leave the column alone there; a blind index has its own option: normalize`,
      })),
      ...(copiesOld(code, plain)
        ? [
            {
              problem: `trigger ${name} copies rows as they were: plaintext that is encrypted stays in the copies`,
              fix: `ALTER TABLE ${table.name} DISABLE TRIGGER for the time of a backfill, and clear what it has copied`,
            },
          ]
        : []),
    ]
  })
}

/** As a statement of its own, or by INTO. A NULL is not an altered envelope. */
function assigns(code: string, column: string): boolean {
  const target = String.raw`new\s*\.\s*(?:"${escaped(column)}"|${escaped(column)}\b)`
  return new RegExp(
    String.raw`(?:^|;|\b(?:begin|then|else|loop))\s*${target}\s*:?=(?!\s*null\s*;)|\binto\s+(?:strict\s+)?${target}`,
    'i',
  ).test(code)
}

const COMPARISON =
  /\b(?:old|new)\b(?:\s*\.\s*[\w"*]+)?\s+is\s+(?:not\s+)?distinct\s+from\s+(?:old|new)\b(?:\s*\.\s*[\w"*]+)?/gi

function copiesOld(code: string, columns: readonly SealedColumn[]): boolean {
  if (columns.length === 0 || !/\binsert\b/i.test(code)) return false
  const names = columns.map(({ plain }) => escaped(plain?.databaseName ?? '')).join('|')
  return new RegExp(String.raw`\bold\b(?!\s*\.)|\bold\s*\.\s*(?:\*|"?(?:${names})\b)`, 'i').test(
    code.replaceAll(COMPARISON, ' '),
  )
}

function escaped(name: string): string {
  return name.replaceAll(/[\\^$.*+?()[\]{}|]/g, String.raw`\$&`)
}
