import {
  changeKek,
  FieldsealError,
  findKey,
  type KekId,
  type KeyInfo,
  monotonicOf,
  newestKekId,
  reEncryptRows,
} from '@fieldseal/core/adapter'
import type { RowVerb } from '../engine/batch.ts'
import type { Checkpoint } from '../engine/checkpoint.ts'
import type { Pace } from '../engine/pace.ts'
import { runJob } from '../engine/run-job.ts'
import type { Surroundings, What } from '../engine/target.ts'
import { isKek, type KekInfo, keyRecords } from '../keys/key-versions.ts'
import { drain as waitFor, type DrainOptions } from '../engine/drain.ts'
import type { Report } from '../report/report.ts'
import { countRows, whatOf } from './rewrap.ts'

export interface ReEncryptOptions extends Pick<What, 'model'>, Pace {
  /** The KEK that leaked. */
  readonly kek: string
  /** Waits until every running process has heard that the key is compromised, before rows are counted. @defaultValue true */
  readonly drain?: boolean
  /** Told every second while it waits for that. */
  readonly onWait?: DrainOptions['onWait']
}

/**
 * The answer to a leaked KEK: every value that it could open gets a new DEK. A rewrap would not do: whoever has the old key
 * and an old copy of a row has its DEK, which a rewrap keeps.
 *
 * Marks the KEK and all later versions of its keyspace compromised, oldest first (rewraps have carried its DEKs there), and
 * the keys of data subjects under them; then new values are under a new KEK, and no rewrap hides an old DEK under it.
 *
 * @throws FieldsealError ERR_ARGUMENT_INVALID for a key that is no KEK of purpose wrap; ERR_ROWS_REMAIN
 */
export async function reEncrypt(surroundings: Surroundings, options: ReEncryptOptions): Promise<Report> {
  const { fieldseal, host } = surroundings
  const { kek, drain = true, onWait, model, ...pace } = options
  const leaked = await leakedKek(surroundings, kek)
  const records = await keyRecords(surroundings, host.tenancy === 'single' ? undefined : leaked.tenant)
  const what = whatOf({
    tenant: host.tenancy === 'single' ? undefined : leaked.tenant,
    model,
    field: undefined,
    keyspace: undefined,
  })
  const marked = new Set<KekId>(
    pace.dryRun === true ? reachedBy(leaked, records.filter(isKek), leaked.compromised) : [], // a dry run marks nothing
  )
  const verb: RowVerb = {
    name: 're-encrypt',
    converges: true,
    work: (rows, { context }) =>
      reEncryptRows(
        fieldseal,
        rows.map(({ row }) => row),
        context,
        marked,
      ),
    remaining: (target) => countRows(target, [...marked], pace),
  }
  let since: number | undefined
  return runJob(surroundings, {
    verb,
    what,
    pace,
    pinned: [kek],
    hint: 'run it again',
    notes: [
      `backups and old copies of the rows still open with ${kek}: destroy them, or treat what they hold as known`,
      'tokens are computed under another key and are not touched',
    ],
    async opened(checkpoint) {
      for (const id of await mark(surroundings, leaked, records, checkpoint)) marked.add(id)
      since ??= monotonicOf(fieldseal)
    },
    async settled() {
      if (!drain) return
      const why = 'processes that write under the leaked key'
      const waited = since === undefined ? {} : { since }
      await waitFor(fieldseal, {
        bound: 'reachable',
        why,
        longestTransactionMs: 0,
        ...waited,
        onWait,
        signal: pace.signal,
      })
    },
  })
}

async function leakedKek({ fieldseal }: Surroundings, id: string): Promise<KekInfo> {
  const found = await findKey(fieldseal, id as KekId) // unknown where it is none
  if (found !== undefined && isKek(found) && found.purpose === 'wrap') return found
  throw new FieldsealError('ERR_ARGUMENT_INVALID', {
    field: 'kek',
    reason: found === undefined ? 'no key with this id' : `a key of kind ${found.kind} that wraps no values`,
    hint: 'fieldseal status lists the ids of KEKs; a leaked index key needs a reindex',
  })
}

/** Marks what the leak reaches, once; a job that goes on marks the same keys. @returns all of them */
async function mark(
  surroundings: Surroundings,
  leaked: KekInfo,
  records: readonly KeyInfo[],
  checkpoint: Checkpoint,
): Promise<readonly KekId[]> {
  const { fieldseal } = surroundings
  const { facts } = checkpoint.state
  const known = facts['reached']
  let reached: readonly KekId[]
  if (Array.isArray(known))
    reached = known as KekId[] // stored below
  else {
    // An earlier job that ended has marked all: later versions hold new DEKs.
    reached = reachedBy(leaked, records.filter(isKek), leaked.compromised)
    facts['reached'] = reached
    await checkpoint.save()
  }
  // Invariant: oldest first. A process that knows the new KEK knows that all it replaces are compromised.
  for (const id of reached) await changeKek(fieldseal, id, { to: 'compromised' })
  const keyspaces = new Set(records.filter((one) => isKek(one) && reached.includes(one.id)).map(keyspaceOf))
  for (const keyspace of keyspaces) await newestKekId(fieldseal, { tenant: leaked.tenant, keyspace })
  for (const id of reached) {
    const kek = await findKey(fieldseal, id)
    if (kek !== undefined && isKek(kek) && kek.state === 'active')
      await changeKek(fieldseal, id, { to: 'decrypt-only' }) // it wraps nothing any more, so that it can be retired
  }
  return reached
}

function keyspaceOf(record: KeyInfo): string {
  return isKek(record) ? record.keyspace : 'default'
}

/** The leaked KEK, later versions that rewraps may have moved its DEKs to, and children that it or they have wrapped. */
function reachedBy(leaked: KekInfo, keks: readonly KekInfo[], markedOnly: boolean): readonly KekId[] {
  const usable = keks.filter(({ purpose, state }) => purpose === 'wrap' && state !== 'destroyed')
  const later = (first: KekInfo) =>
    usable
      .filter((kek) => kek.keyspace === first.keyspace && kek.version >= first.version)
      .filter((kek) => !markedOnly || kek.compromised)
      .toSorted((a, b) => a.version - b.version)
  const own = later(leaked)
  const parents = new Set(own.map(({ id }) => id))
  const children = usable
    .filter(({ parent }) => parent !== undefined && parents.has(parent))
    .toSorted((a, b) => a.version - b.version)
  const all = [...own, ...children.flatMap(later)]
  return [...new Set(all.map(({ id }) => id))]
}
