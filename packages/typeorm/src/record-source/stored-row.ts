import type { BlindIndex, Field, IndexToken, StoredRow } from '@fieldseal/core/adapter'
import { tokenSlotsOf, type SealedColumn, type TokenSlots } from '../entity-map/entity-model.ts'
import type { Installation } from '../install/installation.ts'
import { storedCell } from '../read-path/stored-cell.ts'
import { rowKey } from './row-key.ts'
import type { ModelTable } from './table.ts'

/** Names of what a page's statement computes. A space keeps them apart from names of columns. */
export const NAMES = {
  key: (at: number) => `key ${at}`,
  place: 'row place',
  writer: 'row writer',
  plain: (at: number) => `plain ${at}`,
  outside: (at: number) => `outside ${at}`,
} as const

type Raw = Readonly<Record<string, unknown>>
type Cells = Record<string, StoredRow['cells'][string]>

/** Makes stored rows of what a page's statement gives; what is the same for all rows is looked up once. */
export function rowReader(
  { conversions }: Installation,
  table: ModelTable,
  withTokens: boolean,
): (row: Raw) => StoredRow {
  const keys = table.keys.map(({ path }, at) => ({ path, name: NAMES.key(at) }))
  const paths = table.keys.map(({ path }) => path)
  const facts = table.facts.map(({ path, column }) => ({ path, name: column.databaseName }))
  const columns = table.columns.map((sealed, at) => ({
    sealed,
    path: sealed.field.path,
    own: sealed.column.databaseName,
    twin: sealed.twin?.databaseName,
    plain: NAMES.plain(at),
  }))
  const hasPlainTexts = columns.some(({ twin }) => twin !== undefined)
  const slots = withTokens ? tokenSlotsOf(table) : []
  const partial = partialIndexes(table).map(({ index }, at) => ({ index, name: NAMES.outside(at) }))

  function cellOf({ sealed, own, twin, plain }: (typeof columns)[number], row: Raw): Cells[string] {
    const places =
      twin === undefined
        ? { own: row[own] }
        : { own: row[own], twin: row[twin], plainText: (row[plain] ?? undefined) as string | undefined } // cast to text
    return storedCell(sealed, places, conversions) as Cells[string] // text, or bytes of an envelope
  }

  return (row) => {
    const key: Record<string, unknown> = {}
    for (const { path, name } of keys) key[path] = row[name] // cast to text
    const cells: Cells = {}
    for (const column of columns) cells[column.path] = cellOf(column, row)
    const known: Record<string, unknown> = {}
    for (const { path, name } of facts) known[path] = row[name]
    const version = {
      place: row[NAMES.place] as string, // cast to text, as is the writer
      writer: row[NAMES.writer] as string,
      columns: row,
      plainTexts: hasPlainTexts ? plainTextsOf(columns, row) : NONE,
    }
    const stored = new PageRow(rowKey(key, version), cells, known, paths)
    if (withTokens) stored.tokens = storedTokens(slots, row)
    if (partial.length > 0)
      stored.outside = new Set(partial.flatMap(({ index, name }) => (row[name] === true ? [index] : [])))
    return stored
  }
}

class PageRow implements StoredRow {
  readonly key: StoredRow['key']
  readonly cells: StoredRow['cells']
  readonly columns: StoredRow['columns']
  readonly #paths: readonly string[]
  declare outside?: ReadonlySet<BlindIndex>
  declare tokens?: NonNullable<StoredRow['tokens']>

  constructor(
    key: Readonly<Record<string, unknown>>,
    cells: StoredRow['cells'],
    columns: StoredRow['columns'],
    paths: readonly string[],
  ) {
    this.key = key
    this.cells = cells
    this.columns = columns
    this.#paths = paths
  }

  /** Asked of the last row of a page. */
  get after(): Uint8Array {
    const key = this.key as Readonly<Record<string, unknown>> // as it was given
    return Buffer.from(JSON.stringify(this.#paths.map((path) => key[path])), 'utf8')
  }
}

const NONE: ReadonlyMap<Field, unknown> = new Map()

function plainTextsOf(
  columns: readonly { readonly sealed: SealedColumn; readonly plain: string }[],
  row: Raw,
): ReadonlyMap<Field, unknown> {
  return new Map(columns.flatMap(({ sealed, plain }) => (plain in row ? [[sealed.field, row[plain]] as const] : [])))
}

/** A column holds one value, so an index has one occurrence. */
function storedTokens(slots: readonly TokenSlots[], row: Raw): NonNullable<StoredRow['tokens']> {
  const tokens = new Map<BlindIndex, readonly (readonly IndexToken[])[]>()
  for (const { index, odd, even } of slots) {
    const found = [odd, even].flatMap(({ databaseName }) => (row[databaseName] as IndexToken | null) ?? []) // bytea
    tokens.set(index, [found])
  }
  return tokens
}

/** Indexes that are unique for some rows only. */
export function partialIndexes(table: ModelTable): readonly TokenSlots[] {
  return tokenSlotsOf(table).filter(({ where }) => where !== undefined)
}
