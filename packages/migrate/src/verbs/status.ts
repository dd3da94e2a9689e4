import { appOf, type KekId, nowOf, type RecordMap, type RecordSource, type StoredRow } from '@fieldseal/core/adapter'
import { type Surroundings, type Target, targetsOf, rowOf, type What } from '../engine/target.ts'
import { assertKnown, isKek, isReadable, type KekInfo, keyRecords, newestOf, versionsOf } from '../keys/key-versions.ts'
import { keyIdIn } from '../keys/need.ts'

export interface StatusOptions extends Pick<What, 'tenant' | 'model'> {
  /** Rows of each model that are looked at one by one, the first by key; further ones are only counted. @defaultValue 10_000 */
  readonly sampleRows?: number
}

/** One KEK version, as the key store tells it. */
export interface KeyStatus {
  readonly id: string
  readonly tenant: string
  readonly keyspace: string
  readonly purpose: 'wrap' | 'index'
  readonly version: number
  readonly state: string
  readonly compromised: boolean
  readonly ageDays: number
  /** Days until the policy asks for a rotation; only of the version that wraps new values. */
  readonly daysLeft?: number
  /** The CMKs that have wrapped it, with the version that each had. */
  readonly wraps: readonly { readonly provider: string; readonly uri: string; readonly keyVersion?: string }[]
  readonly rows: number
  readonly rowsExact: boolean
}

export interface FieldStatus {
  readonly field: string
  readonly values: number
  readonly nulls: number
  readonly plaintext: number
  /** Values whose key is unknown, retired, denied or destroyed. */
  readonly unreadable: number
}

export interface ModelStatus {
  readonly model: string
  readonly rows: number
  readonly plaintextRows: number
  /** Rows that were looked at one by one; what follows is about them alone. */
  readonly sampled: number
  readonly fields: readonly FieldStatus[]
  /** Tokens per epoch. */
  readonly indexes: readonly { readonly index: string; readonly epochs: Readonly<Record<string, number>> }[]
}

export interface Status {
  readonly app: string
  readonly at: string
  readonly tenant?: string
  /** Keys of tenants; those of data subjects are counted in `subjects`. */
  readonly keys: readonly KeyStatus[]
  readonly subjects: { readonly keys: number; readonly keyspaces: number; readonly oldestAgeDays?: number }
  readonly models: readonly ModelStatus[]
  /** Rows under the newest key of their keyspace, and rows under an older one that a rewrap moves. */
  readonly rewrap: { readonly newest: number; readonly older: number; readonly exact: boolean }
  readonly notes: readonly string[]
}

const DAY_MS = 86_400_000
/** Beyond this many keys, rows per key are told from the sample. */
const MAX_COUNTED = 32
const SAMPLE_ROWS = 10_000

/** Where keys and rows stand. Opens no value. */
export async function status(surroundings: Surroundings, options: StatusOptions = {}): Promise<Status> {
  const { fieldseal, policy } = surroundings
  const { tenant, model, sampleRows = SAMPLE_ROWS } = options
  const now = nowOf(fieldseal)
  const records = await keyRecords(surroundings, tenant)
  const keks = records.filter(isKek)
  const what = { ...(tenant === undefined ? {} : { tenant }), ...(model === undefined ? {} : { model }) }
  const targets = targetsOf(surroundings, 'status', what)
  const sampled = new Map<KekId, number>()
  const models: ModelStatus[] = []
  let whole = true
  for (const target of targets) {
    const found = await modelStatus(target, keks, sampled, sampleRows)
    whole &&= found.sampled >= found.rows
    models.push(found)
  }
  if (models.every(({ rows }) => rows === 0)) await assertKnown(surroundings, { tenant })
  const own = keks.filter(({ parent }) => parent === undefined)
  const counted = !whole && own.length <= MAX_COUNTED
  const newest = new Set(versionsOf(keks).map((group) => newestOf(group, now)?.id))
  const keys: KeyStatus[] = []
  for (const kek of own) {
    const rows = counted && kek.purpose === 'wrap' ? await countRows(targets, kek.id) : undefined
    keys.push(
      keyStatus(kek, { rows, sampled: sampled.get(kek.id) ?? 0, whole, now, policy, newest: newest.has(kek.id) }),
    )
  }
  return {
    app: appOf(fieldseal),
    at: new Date(now).toISOString(),
    ...(tenant === undefined ? {} : { tenant }),
    keys: keys.toSorted((a, b) => compare(nameOf(a), nameOf(b)) || a.version - b.version),
    subjects: subjectsOf(keks, now),
    models,
    rewrap: rewrapProgress(keks, keys, sampled, newest, whole || (counted && own.length === keks.length)),
    notes: whole ? [] : [`figures per field and index are of the first ${sampleRows} rows of each model by key`],
  }
}

function nameOf({ tenant, keyspace, purpose }: KeyStatus): string {
  return `${tenant}\0${keyspace}\0${purpose}`
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b)
}

async function countRows(targets: readonly Target[], kekId: KekId) {
  let rows = 0
  let exact = true
  for (const { source, map } of targets) {
    const counted = await source.count(map, { kekId })
    rows += counted.rows
    exact &&= counted.exact
  }
  return { rows, exact }
}

function keyStatus(
  kek: KekInfo,
  facts: {
    readonly rows: { readonly rows: number; readonly exact: boolean } | undefined
    readonly sampled: number
    readonly whole: boolean
    readonly now: number
    readonly policy: { readonly maxAgeDays: number }
    readonly newest: boolean
  },
): KeyStatus {
  const ageDays = (facts.now - kek.createdAt) / DAY_MS
  const { id, tenant, keyspace, purpose, version, compromised } = kek
  return {
    id,
    tenant,
    keyspace,
    purpose,
    version,
    state: kek.denial === undefined ? kek.state : `${kek.state}, denied: ${kek.denial}`,
    compromised,
    ageDays: Math.floor(ageDays),
    ...(facts.newest && purpose === 'wrap' ? { daysLeft: Math.floor(facts.policy.maxAgeDays - ageDays) } : {}),
    wraps: kek.wraps.map(({ provider, uri, keyVersion }) => ({
      provider,
      uri,
      ...(keyVersion === undefined ? {} : { keyVersion }),
    })),
    rows: facts.rows?.rows ?? facts.sampled,
    rowsExact: facts.rows?.exact ?? facts.whole,
  }
}

function subjectsOf(keks: readonly KekInfo[], now: number): Status['subjects'] {
  const subjects = keks.filter(({ parent }) => parent !== undefined)
  const oldest = subjects.reduce((least, { createdAt }) => Math.min(least, createdAt), Infinity)
  return {
    keys: subjects.length,
    keyspaces: new Set(subjects.map(({ tenant, keyspace }) => `${tenant}\0${keyspace}`)).size,
    ...(subjects.length === 0 ? {} : { oldestAgeDays: Math.floor((now - oldest) / DAY_MS) }),
  }
}

function rewrapProgress(
  keks: readonly KekInfo[],
  keys: readonly KeyStatus[],
  sampled: ReadonlyMap<KekId, number>,
  newest: ReadonlySet<KekId | undefined>,
  exact: boolean,
): Status['rewrap'] {
  const counted = new Map(keys.map(({ id, rows }) => [id, rows]))
  const progress = { newest: 0, older: 0 }
  for (const kek of keks) {
    if (kek.purpose !== 'wrap') continue
    const rows = counted.get(kek.id) ?? sampled.get(kek.id) ?? 0
    if (newest.has(kek.id)) progress.newest += rows
    else if (isReadable(kek)) progress.older += rows
  }
  return { ...progress, exact }
}

async function modelStatus(
  target: Target,
  keks: readonly KekInfo[],
  sampled: Map<KekId, number>,
  sampleRows: number,
): Promise<ModelStatus> {
  const { source, map } = target
  const readable = new Set(keks.filter(isReadable).map(({ id }) => id))
  const fields = new Map(map.fields.map((field) => [field, { values: 0, nulls: 0, plaintext: 0, unreadable: 0 }]))
  const epochs = new Map(map.indexes.map((index) => [index, new Map<string, number>()]))
  let seen = 0
  for await (const row of sampleOf(target, sampleRows)) {
    seen++
    const cells = rowOf(target, row)?.cells ?? []
    const inRow = new Set<KekId>()
    for (const { field, value } of cells) {
      const counts = fields.get(field)
      if (counts === undefined) continue
      const kekId = keyIdIn(value)
      if (value === null || value === undefined) counts.nulls++
      else if (kekId === undefined) counts.plaintext++
      else {
        counts.values++
        inRow.add(kekId)
        if (!readable.has(kekId) && map.mode === 'kek') counts.unreadable++
      }
    }
    for (const id of inRow) sampled.set(id, (sampled.get(id) ?? 0) + 1)
    for (const [index, occurrences] of row.tokens ?? [])
      for (const token of occurrences.flat()) {
        const ofIndex = epochs.get(index)
        const epoch = String(token[0] ?? 0)
        ofIndex?.set(epoch, (ofIndex.get(epoch) ?? 0) + 1)
      }
  }
  return {
    model: map.id,
    rows: target.what.tenant === undefined ? await countOf(source, map, 'all') : seen,
    plaintextRows: target.what.tenant === undefined ? await countOf(source, map, 'plaintext') : 0,
    sampled: seen,
    fields: [...fields].map(([field, counts]) => ({ field: field.id, ...counts })),
    indexes: [...epochs].map(([index, counts]) => ({ index: index.id, epochs: Object.fromEntries(counts) })),
  }
}

async function countOf(source: RecordSource, map: RecordMap, what: 'all' | 'plaintext'): Promise<number> {
  return (await source.count(map, what)).rows
}

/** The first rows by key that the target is about. */
async function* sampleOf(target: Target, most: number): AsyncGenerator<StoredRow> {
  const { source, map, what } = target
  let seen = 0
  const size = Math.min(1_000, most)
  const tenant = what.tenant === undefined ? {} : { tenant: what.tenant }
  for await (const page of source.pages(map, { size, tokens: true, ...tenant }))
    for (const row of page) {
      if (!isOf(target, row)) continue
      yield row
      if (++seen >= most) return
    }
}

function isOf(target: Target, row: StoredRow): boolean {
  try {
    return rowOf(target, row) !== undefined
  } catch {
    return target.what.tenant === undefined // whose it is cannot be told: it counts among all
  }
}
