import type { KeyObject } from 'node:crypto'
import { attach, type Fieldseal, FieldsealError, type RecordSource, type RotatedCmk } from '@fieldseal/core/adapter'
import type { Pace } from './engine/pace.ts'
import type { Surroundings, What } from './engine/target.ts'
import { applyMove, type Move, type MoveOptions, planMove } from './plan/move.ts'
import { type ApplyOptions, checkedPlan, type Plan, type PlannedVerb } from './plan/plan.ts'
import { applyRetire, planRetire, type Retirement, type RetireOptions } from './plan/retire.ts'
import { applyShred, planShred, type Shred, type ShredOptions } from './plan/shred.ts'
import { checkedPolicy, type Policy } from './policy.ts'
import type { ReindexOptions } from './reindex/run.ts'
import { advised } from './report/advice.ts'
import type { Report } from './report/report.ts'
import type { Statement } from './report/statement.ts'
import { doctor, type DoctorOptions, type Finding } from './verbs/doctor.ts'
import { checkLock, type Lock, lockOf } from './verbs/lock.ts'
import { backfill } from './verbs/backfill.ts'
import { decrypt, type DecryptOptions } from './verbs/decrypt.ts'
import { status, type Status, type StatusOptions } from './verbs/status.ts'
import { rebind, type RebindOptions } from './verbs/rebind.ts'
import { reEncrypt, type ReEncryptOptions } from './verbs/re-encrypt.ts'
import { reindex } from './verbs/reindex.ts'
import { rotateCmk } from './verbs/rotate-cmk.ts'
import { type KekRotation, rotateKek, type RotateKekOptions } from './verbs/rotate-kek.ts'
import { rewrap, type RewrapOptions } from './verbs/rewrap.ts'
import { verify } from './verbs/verify.ts'

export interface MigratorOptions {
  readonly fieldseal: Fieldseal<never> | Fieldseal
  /** Where the encrypted rows are: `typeormSource(dataSource)`, `mongooseSource(connection)`. */
  readonly sources: readonly RecordSource[]
  readonly policy?: Policy
  /** Ed25519 private key that signs the reports of shreds. @defaultValue none: reports are labelled unsigned */
  readonly signingKey?: KeyObject
}

/** Rotation, migration and shredding, as functions. Every verb may be interrupted at any moment and run again. */
export interface Migrator {
  /** Where keys and rows stand. Opens no value; `statusText` and `statusHtml` print it. */
  status(options?: StatusOptions): Promise<Status>
  /** What is wrong with tables, keys, CMKs and clock, or will be. */
  doctor(options?: DoctorOptions): Promise<readonly Finding[]>
  /** The ids that stored data depends on: what `fieldseal.lock.json` holds. */
  lock(): Lock
  /** What differs from a committed lock. */
  checkLock(committed: unknown): readonly Finding[]
  /** Wraps the DEKs of stored rows by the newest KEK. Needed before an old one can be retired. */
  rewrap(options?: RewrapOptions): Promise<Report>
  /** Opens every value and compares every token. */
  verify(options?: What & Pace): Promise<Report>
  /** Gives a keyspace a new KEK, or all keyspaces that the policy says are due. */
  rotateKek(options?: RotateKekOptions): Promise<KekRotation>
  /** Wraps the KEKs of a tenant by the newest version of its CMKs. */
  rotateCmk(options?: { readonly tenant?: string }): Promise<RotatedCmk>
  /** Gives a new DEK to every value that a leaked KEK could open. */
  reEncrypt(options: ReEncryptOptions): Promise<Report>
  /** Binds values to their rows after a table was copied or renumbered. */
  rebind(options?: RebindOptions): Promise<Report>
  /** Moves blind indexes to what `blindIndex.next` describes, or to a new key, while both are filled. */
  reindex(options?: ReindexOptions): Promise<Report>
  /** Encrypts stored plaintext of fields in state `migrating`; gives those in state `plaintext` their tokens. */
  backfill(options?: What & Pace): Promise<Report>
  /** Stores the values of a field in plaintext again: the way back. */
  decrypt(options: DecryptOptions): Promise<Report>
  /** Plans to make the wraps of a tenant's KEKs agree with its configured CMKs. */
  plan(verb: 'move', options?: MoveOptions): Promise<Plan>
  /** Plans to take a key out of use that nothing needs any more. */
  plan(verb: 'retire', options: RetireOptions): Promise<Plan>
  /** Plans to destroy the keys of a keyspace or a tenant. */
  plan(verb: 'shred', options: ShredOptions): Promise<Plan>
  /** Does what a plan says. @throws FieldsealError ERR_PLAN_OUTDATED, ERR_PLAN_REFUSED, ERR_KEY_NEEDED */
  apply(plan: Plan, options?: ApplyOptions): Promise<Applied>
}

export type Applied = Move | Retirement | Statement<Shred>

/** @throws FieldsealError ERR_CONFIG_INVALID naming the option */
export function createMigrator({ fieldseal, sources, ...options }: MigratorOptions): Migrator {
  if (!Array.isArray(sources) || sources.length === 0 || !sources.every(isSource))
    throw new FieldsealError('ERR_CONFIG_INVALID', {
      field: 'sources',
      hint: 'say where the rows are: sources: [typeormSource(dataSource)], or [mongooseSource(connection)]',
    })
  const host = attach(fieldseal, { name: 'migrate', ormVersion: '0' })
  const policy = checkedPolicy(options.policy)
  if (options.signingKey !== undefined && options.signingKey.asymmetricKeyType !== 'ed25519')
    throw new FieldsealError('ERR_CONFIG_INVALID', { field: 'signingKey', reason: 'an Ed25519 private key' })
  const surroundings: Surroundings = { fieldseal, sources, host, policy, signingKey: options.signingKey }
  /** A service that lets a verb down is told with what to do. */
  const verb =
    <A extends readonly unknown[], R>(name: string, run: (given: Surroundings, ...args: A) => Promise<R>) =>
    (...args: A): Promise<R> =>
      run(surroundings, ...args).catch((error: unknown) => {
        throw advised(error, name)
      })
  return {
    status: verb('status', status),
    doctor: verb('doctor', doctor),
    lock: () => lockOf(surroundings),
    checkLock: (committed) => checkLock(surroundings, committed),
    rewrap: verb('rewrap', rewrap),
    verify: verb('verify', verify),
    rotateKek: verb('rotate kek', rotateKek),
    rotateCmk: verb('rotate cmk', rotateCmk),
    reEncrypt: verb('re-encrypt', reEncrypt),
    rebind: verb('rebind', rebind),
    reindex: verb('reindex', reindex),
    backfill: verb('backfill', backfill),
    decrypt: verb('decrypt', decrypt),
    plan: verb('plan', makePlan),
    apply: verb('apply', applyPlan),
  }
}

/** A data source or a connection is taken for a source easily. */
function isSource(source: Partial<RecordSource> | undefined): boolean {
  return typeof source?.pages === 'function' && typeof source.compareAndSet === 'function'
}

async function makePlan(surroundings: Surroundings, name: PlannedVerb, options: object = {}): Promise<Plan> {
  const given = options as RetireOptions & ShredOptions // by the overloads
  if (name === 'move') return planMove(surroundings, given)
  return name === 'retire' ? planRetire(surroundings, given) : planShred(surroundings, given)
}

async function applyPlan(surroundings: Surroundings, asked: Plan, given: ApplyOptions = {}): Promise<Applied> {
  const plan = checkedPlan(asked)
  if (plan.verb === 'retire') return applyRetire(surroundings, plan, given.cancel === true)
  if (plan.verb === 'shred') return applyShred(surroundings, plan, given)
  if (given.cancel === true)
    throw new FieldsealError('ERR_PLAN_REFUSED', {
      operation: 'move',
      reason: 'a move is taken back by configuring the former CMKs and moving again',
    })
  return applyMove(surroundings, plan)
}
