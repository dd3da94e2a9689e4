import { AT, type Envelope, KEK_AT } from '../envelope/layout.ts'
import type { ParsedCell } from './parse-row.ts'
import type { RewrittenCell } from './ports.ts'

/** What became of one row: the cells to replace, none when all are as they should be; or why it could not be opened. */
export type RewrittenRow = { readonly cells: readonly RewrittenCell[] } | { readonly error: unknown }

/** Cells that are to be replaced by other envelopes of the same values; those without one stay. */
export function rewrittenCells(
  cells: readonly ParsedCell[],
  afterOf: (cell: ParsedCell, at: number) => Envelope | undefined,
): readonly RewrittenCell[] {
  const rewritten: RewrittenCell[] = []
  for (let at = 0; at < cells.length; at++) {
    const parsedCell = cells[at] as ParsedCell // at < length
    const after = afterOf(parsedCell, at)
    if (after === undefined) continue
    const { field, mapKeys } = parsedCell.cell
    const before = parsedCell.parsed.bytes as Uint8Array as Envelope // parsed before
    rewritten.push(mapKeys === undefined ? { field, before, after } : { field, mapKeys, before, after })
  }
  return rewritten
}

/** The new head, the cell's own value flags and type tag, and the value part as it was. */
export function withHead({ parsed: { bytes, valueAt } }: ParsedCell, head: Buffer | undefined): Envelope | undefined {
  if (head === undefined) return undefined
  const out = Buffer.concat([head, bytes.subarray(valueAt)])
  bytes.copy(out, AT.valueFlags, AT.valueFlags, KEK_AT.salt)
  return out as Uint8Array as Envelope // header, wrap and value are all in place
}
