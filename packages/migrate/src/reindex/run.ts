import { type ErrorCode, isFieldsealError, type KekId } from '@fieldseal/core/adapter'
import type { Checkpoint } from '../engine/checkpoint.ts'
import type { checkedPace, Pace } from '../engine/pace.ts'
import type { Surroundings, Target, What } from '../engine/target.ts'
import type { Report } from '../report/report.ts'
import { indexesOf, indexRecords, movesOf, type StandingMove } from './moves.ts'

export interface ReindexOptions extends Pick<What, 'tenant' | 'model' | 'field'>, Omit<Pace, 'shard'> {
  /** Makes new index keys as well, because the old ones leaked or are due; they are retired afterwards. @defaultValue false */
  readonly newKey?: boolean
  /** Calls off what has begun, as long as look-ups ask the old tokens. @defaultValue false */
  readonly cancel?: boolean
  /** How long a transaction or a cursor of yours may still use what it looked up before. @defaultValue 600_000 */
  readonly longestTransactionMs?: number
  /** Told every second while the verb waits until running processes have heard of a change. */
  readonly onWait?: (wait: { readonly why: string; readonly remainingMs: number }) => void
}

/** Ten minutes: longer transactions than that are an incident. */
export const LONGEST_TRANSACTION_MS = 600_000

/** One run of the verb, from wherever it stands. */
export interface Run {
  readonly surroundings: Surroundings
  readonly options: ReindexOptions
  readonly pace: ReturnType<typeof checkedPace>
  readonly what: What
  readonly targets: readonly Target[]
  readonly checkpoint: Checkpoint
  readonly reports: Report[]
}

/** Where the indexes of this run stand. New tenants may have come. */
export async function standing({ surroundings, what, targets, checkpoint }: Run): Promise<readonly StandingMove[]> {
  const records = await indexRecords(surroundings, what.tenant)
  return movesOf(surroundings, indexesOf(targets), records, leavingOf(checkpoint))
}

export function leavingOf({ state }: Checkpoint): readonly KekId[] {
  return (state.facts['leaving'] ?? []) as readonly KekId[] // ids that this verb has put there
}

/** A tenant whose keys its customer denies stays as it is until another run; the others go on. */
export async function unlessDenied(run: Run, { owner }: StandingMove, act: () => Promise<unknown>): Promise<void> {
  const left = leftOf(run.checkpoint)
  if (left.has(owner)) return
  try {
    await act()
  } catch (error) {
    if (!isFieldsealError(error) || (error.kind !== 'denied' && error.kind !== 'erased')) throw error
    left.set(owner, error.code)
    run.checkpoint.state.facts['left'] = [...left].map((one) => JSON.stringify(one))
    await run.checkpoint.save()
  }
}

/** Tenants that this run leaves as they are, and why. */
export function leftOf({ state }: Checkpoint): Map<string, ErrorCode> {
  const left = (state.facts['left'] ?? []) as readonly string[] // put there by unlessDenied()
  return new Map(left.map((one) => JSON.parse(one) as [string, ErrorCode]))
}
