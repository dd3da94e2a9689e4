import { createSecretKey, type KeyObject } from 'node:crypto'
import type { AeadEngine, OpenJob } from '../cipher/aead.ts'
import { KEK_AT } from '../envelope/layout.ts'
import type { ParsedEnvelope } from '../envelope/parse.ts'
import { sharesWrap, wrapAad, type WrapFrame } from './dek-wrap.ts'

/** One parsed value with what its reader expects of it. */
export interface ValueToOpen {
  readonly parsed: ParsedEnvelope
  readonly frame: WrapFrame
  /** The reader's row id when the envelope is row-bound, else undefined. */
  readonly rowId: Uint8Array | undefined
  readonly aad: Uint8Array
}

/** Distinct wraps looked back at; a row holds about as many as it has seen writes. */
const WINDOW = 8

/** Opens the wraps of values: a DEK per value, undefined where the wrap does not authenticate. Values of one row follow each other. */
export function openDeks(values: readonly ValueToOpen[], engine: AeadEngine): readonly (Buffer | undefined)[] {
  const jobs: OpenJob[] = []
  const openers: ValueToOpen[] = []
  const jobOf = values.map((value) => {
    for (let job = jobs.length - 1; job >= 0 && job >= jobs.length - WINDOW; job--) {
      if (isSameWrap(openers[job], value)) return job
    }
    const { frame, parsed, rowId } = value
    openers.push(value)
    return (
      jobs.push({
        key: frame.key,
        aad: wrapAad(frame, rowId),
        sealed: parsed.bytes,
        start: KEK_AT.nonce,
        end: KEK_AT.value,
      }) - 1
    )
  })
  const opened = engine.openMany(jobs)
  return jobOf.map((job) => opened[job])
}

/** Every byte of the wrap and all facts of its AAD are compared: a copy in another row or under another header gains nothing. */
function isSameWrap(a: ValueToOpen | undefined, b: ValueToOpen): boolean {
  return a !== undefined && a.rowId === b.rowId && a.frame === b.frame && sharesWrap(a.parsed.bytes, b.parsed.bytes)
}

/** Opens values; undefined where wrap or value does not authenticate, and no word about which. DEKs are zeroed. */
export function openValues(values: readonly ValueToOpen[], engine: AeadEngine): readonly (Buffer | undefined)[] {
  const deks = openDeks(values, engine)
  const jobs: OpenJob[] = []
  const keys = new Map<Buffer, KeyObject>()
  const jobOf = values.map(({ parsed, aad }, i) => {
    const dek = deks[i]
    if (dek === undefined) return undefined
    let key = keys.get(dek)
    if (key === undefined) keys.set(dek, (key = createSecretKey(dek)))
    return jobs.push({ key, aad, sealed: parsed.bytes, start: parsed.valueAt, end: parsed.bytes.length }) - 1
  })
  for (const dek of keys.keys()) dek.fill(0)
  const opened = engine.openMany(jobs)
  return jobOf.map((job) => (job === undefined ? undefined : opened[job]))
}
