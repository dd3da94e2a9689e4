import {
  attach,
  type BlindIndex,
  type CheckpointStore,
  type Envelope,
  envelopeFromText,
  FieldsealError,
  type Fieldseal,
  isEnvelopeText,
  isPlainCell,
  plainCell,
  type IndexToken,
  type ModelDeclaration,
  type PageOptions,
  type PatchedCell,
  type RecordMap,
  type RecordSource,
  type Row,
  type RowPatch,
  type StoredCell,
  type StoredRow,
} from '@fieldseal/core/adapter'

/** One stored row as an attacker with database access sees it. May be changed. */
export interface MemoryRow {
  /** Tenant, keyspace and key columns. */
  readonly columns: Record<string, unknown>
  readonly cells: Record<string, Envelope | string | null>
  /** Tokens by index id. */
  readonly tokens: Record<string, readonly IndexToken[]>
}

/** A database for tests: rows in memory, written and read as an adapter would, and walked as by a migration. */
export interface MemoryRecordSource extends RecordSource {
  /** Rows of each model, by the JSON text of their key values. */
  readonly rows: ReadonlyMap<string, Map<string, MemoryRow>>
  /** Seals `values` in the caller's context and stores them; those of the row that are not named stay. */
  write(model: string, columns: Record<string, unknown>, values: Record<string, unknown>): Promise<void>
  /** Opens a stored row in the caller's context. */
  read(model: string, columns: Record<string, unknown>): Promise<Record<string, unknown>>
  /** Runs before each compare-and-set, with the rows it is about to change. */
  beforeUpdate: ((patches: readonly RowPatch<PatchedCell>[]) => void | Promise<void>) | undefined
}

/** @param database the rows and checkpoints of another one, as a second process sees them. @defaultValue empty */
export function memoryRecordSource(
  fieldseal: Fieldseal<never> | Fieldseal,
  declarations: readonly ModelDeclaration[],
  database?: Pick<MemoryRecordSource, 'rows' | 'checkpoints'>,
): MemoryRecordSource {
  const host = attach(fieldseal, { name: 'memory', ormVersion: '1', fieldStates: true, compoundIndexes: true })
  const models = declarations.map((declaration) => host.defineModel(declaration))
  const tables = new Map<string, Map<string, MemoryRow>>(
    models.map((map) => [map.id, database?.rows.get(map.id) ?? new Map<string, MemoryRow>()]),
  )
  const keyOf = (map: RecordMap, columns: Readonly<Record<string, unknown>>) =>
    JSON.stringify(map.rowKey.map(({ path }) => columns[path]))
  const mapOf = (model: string) => models.find(({ id }) => id === model) ?? unknown(model)
  const tableOf = ({ id }: RecordMap) => tables.get(id) ?? unknown(id)
  const sorted = (map: RecordMap) => [...tableOf(map)].sort(([a], [b]) => (a < b ? -1 : 1))

  /** No other row of the tenant has one of these tokens in a unique index. */
  function isFree(
    map: RecordMap,
    key: unknown,
    columns: Record<string, unknown>,
    tokens: MemoryRow['tokens'],
  ): boolean {
    const tenant = map.tenantPath ?? ''
    const others = [...tableOf(map)].filter(([name]) => name !== String(key))
    return map.indexes.every((index) => {
      if (!index.unique || !meets(index, columns)) return true
      const own = tokens[index.id] ?? []
      const rivals = others.filter(
        ([, row]) => (index.acrossTenants || row.columns[tenant] === columns[tenant]) && meets(index, row.columns),
      )
      return !rivals.some(([, row]) => row.tokens[index.id]?.some((one) => own.some((mine) => isSame(one, mine))))
    })
  }

  const source: MemoryRecordSource = {
    rows: tables,
    models,
    checkpoints: database?.checkpoints ?? memoryCheckpoints(),
    beforeUpdate: undefined,
    async write(model, columns, values) {
      const map = mapOf(model)
      const context = host.capture()
      const row = rowOf(map, columns, values)
      const facts = map.facts(columns, context)
      for (const { id, fields } of map.indexes) {
        const given = fields.filter((field) => row.cells.some((cell) => cell.field === field))
        if (given.length > 0 && given.length < fields.length)
          throw new FieldsealError('ERR_ARGUMENT_INVALID', { model, field: id, reason: 'write all of its fields' })
      }
      const plain = row.cells.filter(({ field }) => field.state === 'plaintext')
      const secret = row.cells.filter(({ field }) => field.state !== 'plaintext')
      const [sealed] = await host.cipher.seal([{ ...row, facts, cells: secret }], context)
      const indexed = plain.length === 0 ? [] : await host.cipher.index([{ ...row, facts }], context)
      const before = tableOf(map).get(keyOf(map, columns))
      const cells = { ...before?.cells }
      for (const [i, { field }] of secret.entries()) cells[field.path] = sealed?.envelopes[i] ?? null
      for (const { field, value } of plain)
        cells[field.path] = asStored(value === null ? null : plainCell(field.path, value))
      const tokens = { ...before?.tokens }
      for (const [index, [found = []]] of [...(sealed?.tokens ?? []), ...(indexed[0] ?? [])]) tokens[index.id] = found
      if (!isFree(map, keyOf(map, columns), columns, tokens)) throw new FieldsealError('ERR_INDEX_COLLISION', { model })
      tableOf(map).set(keyOf(map, columns), { columns, cells, tokens })
    },
    async read(model, columns) {
      const map = mapOf(model)
      const context = host.capture()
      const stored = tableOf(map).get(keyOf(map, columns)) ?? unknown(model)
      const row = rowOf(map, stored.columns, stored.cells)
      const [opened] = await host.cipher.open([{ ...row, facts: map.facts(stored.columns, context) }], context)
      return Object.fromEntries(row.cells.map(({ field }, i) => [field.path, opened?.values[i]]))
    },
    async *pages(map, { after, shard, size, kekId, tenant, tokens = false }: PageOptions) {
      let position = after === undefined ? undefined : Buffer.from(after).toString()
      for (;;) {
        const from = position
        const page = sorted(map)
          .filter(([key]) => from === undefined || key > from)
          .filter(([key]) => shard === undefined || hashOf(key) % shard[1] === shard[0] - 1)
          .filter(([, row]) => kekId === undefined || needs(row, kekId))
          .filter(([, { columns }]) => tenant === undefined || columns[map.tenantPath ?? ''] === tenant)
          .slice(0, size)
        if (page.length > 0) yield page.map(([key, row]) => storedRow(map, key, row, tokens))
        position = page.at(-1)?.[0] ?? position
        if (page.length < size) return
      }
    },
    async count(map, what) {
      const rows = sorted(map).filter(([, row]) => {
        if (what === 'all') return true
        if (what === 'plaintext') return Object.values(row.cells).some((cell) => bytesOf(cell)?.[0] !== 0xf8 && cell)
        return needs(row, what.kekId)
      })
      return { rows: rows.length, exact: true }
    },
    async compareAndSet(map, patches) {
      await source.beforeUpdate?.(patches)
      return patches.map(({ key, cells }) => {
        const row = tableOf(map).get(String(key))
        const unchanged = cells.every(({ field, before }) => {
          const stored = bytesOf(row?.cells[field.path])
          return stored !== undefined && Buffer.compare(stored, before) === 0
        })
        if (row === undefined || !unchanged) return 'changed'
        for (const { field, after } of cells) row.cells[field.path] = after
        return 'updated'
      })
    },
    async convert(map, patches) {
      await source.beforeUpdate?.(patches)
      return patches.map((patch) => {
        const { key, cells } = patch
        const row = tableOf(map).get(String(key))
        if (row === undefined || !cells.every(({ field, before }) => holds(row.cells[field.path], before)))
          return 'changed'
        if (!isFree(map, key, row.columns, tokensIn(patch))) return 'refused'
        for (const { field, after } of cells) row.cells[field.path] = asStored(after)
        Object.assign(row.tokens, tokensIn(patch))
        return 'updated'
      })
    },
    async countPlaintext(map, { path }) {
      return sorted(map).filter(([, { cells }]) => isPlaintext(cells[path])).length
    },
    async fits(_map, _field, values) {
      return values.map((value) => typeof value === 'string' && isPlaintext(value))
    },
    async inspect() {
      return []
    },
    async clearTokens(map, keys) {
      for (const key of keys) {
        const row = tableOf(map).get(String(key))
        if (row !== undefined) for (const index of Object.keys(row.tokens)) row.tokens[index] = []
      }
    },
  }
  return source
}

function memoryCheckpoints(): CheckpointStore {
  const stored = new Map<string, { readonly version: number; readonly state: Uint8Array }>()
  return {
    async load(job) {
      return stored.get(job)
    },
    async save(job, version, state) {
      if ((stored.get(job)?.version ?? 0) !== version - 1) return 'changed'
      stored.set(job, { version, state: Uint8Array.from(state) })
      return 'saved'
    },
  }
}

function rowOf(
  map: RecordMap,
  columns: Record<string, unknown>,
  values: Record<string, unknown>,
): Omit<Row<unknown>, 'facts'> & { readonly columns: Record<string, unknown> } {
  const cells = Object.entries(values).map(([path, value]) => {
    const { field } = map.at(path)
    return field === undefined ? unknown(path) : { field, value }
  })
  return { map, columns, cells }
}

function storedRow(map: RecordMap, key: string, { columns, cells, tokens }: MemoryRow, withTokens: boolean): StoredRow {
  const outside = new Set(map.indexes.filter((index) => !meets(index, columns)))
  const row = { key, after: Buffer.from(key), cells: { ...cells }, columns, outside }
  if (!withTokens) return row
  return { ...row, tokens: new Map(map.indexes.map((index) => [index, [tokens[index.id] ?? []]])) }
}

/** Whether a row counts for a unique index. */
function meets({ uniqueWhere }: BlindIndex, columns: Readonly<Record<string, unknown>>): boolean {
  return uniqueWhere.every(({ path, equals }) => (columns[path] ?? null) === equals)
}

function isSame(one: Uint8Array, other: Uint8Array): boolean {
  return Buffer.compare(one, other) === 0
}

function tokensIn({ cells, tokens: ofSeveral }: RowPatch<PatchedCell>): Record<string, readonly IndexToken[]> {
  const found = cells.flatMap(({ field: { blindIndex }, tokens }) =>
    blindIndex === undefined || tokens === undefined ? [] : [[blindIndex.id, tokens] as const],
  )
  return Object.fromEntries([...found, ...[...(ofSeveral ?? [])].map(([{ id }, tokens]) => [id, tokens] as const)])
}

function holds(stored: Envelope | string | null | undefined, before: StoredCell): boolean {
  if (before === null) return stored === null || stored === undefined
  if (isPlainCell(before)) return stored === before.value
  const bytes = bytesOf(stored)
  return before instanceof Uint8Array && bytes !== undefined && isSame(bytes, before)
}

/** Plaintext stands in the place of its envelope, as text. */
function asStored(after: StoredCell): Envelope | string | null {
  if (!isPlainCell(after)) return after
  return typeof after.value === 'string' ? after.value : unknown(after.path)
}

function isPlaintext(cell: Envelope | string | null | undefined): boolean {
  return typeof cell === 'string' && !isEnvelopeText(cell)
}

function needs({ cells }: MemoryRow, kekId: string): boolean {
  return Object.values(cells).some((cell) => {
    const bytes = bytesOf(cell)
    return bytes !== undefined && Buffer.from(bytes).toString('hex', 3, 15) === kekId
  })
}

function bytesOf(cell: Envelope | string | null | undefined): Uint8Array | undefined {
  if (typeof cell !== 'string') return cell ?? undefined
  try {
    return envelopeFromText(cell)
  } catch {
    return Buffer.from(cell) // plaintext
  }
}

function hashOf(text: string): number {
  let hash = 0
  for (const char of text) hash = (hash * 31 + (char.codePointAt(0) ?? 0)) >>> 0
  return hash
}

function unknown(field: string): never {
  throw new FieldsealError('ERR_ARGUMENT_INVALID', { field, reason: 'no such model, field or row' })
}
