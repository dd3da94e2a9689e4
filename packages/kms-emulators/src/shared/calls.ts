/** What is known of a call before it is answered; policies and faults are chosen by it. */
export interface CallFacts {
  readonly operation: string
  /** Who called: an ARN, a service account, or `anonymous`. */
  readonly principal: string
  /** The key asked for, by its canonical name; empty when the call names none. */
  readonly key: string
  /** AWS: the encryption context. Google: absent, it sees bytes only. */
  readonly context?: Readonly<Record<string, string>>
}

/** One line of what the vendor's log would show, with our answer. Holds no key and no plaintext. */
export interface LoggedCall extends CallFacts {
  readonly at: Date
  readonly requestId: string
  /** `ok`, or the vendor's error name. */
  readonly outcome: string
  /** AWS: the key material that was used, as CloudTrail shows it. Google: the version. */
  readonly keyVersion?: string
  readonly dryRun?: boolean
}

/** Which calls a policy or a fault is about; an absent member is about all. */
export interface CallMatch {
  readonly operation?: string
  readonly principal?: string
  readonly key?: string
  /** All of these pairs must be in the call's context. */
  readonly context?: Readonly<Record<string, string>>
}

/** Decides about a call as a key policy or an IAM binding would. One `deny` denies. */
export type Policy = (call: CallFacts) => 'allow' | 'deny'

export function matches(call: CallFacts, match: CallMatch | ((call: CallFacts) => boolean) | undefined): boolean {
  if (match === undefined) return true
  if (typeof match === 'function') return match(call)
  return (
    (match.operation === undefined || match.operation === call.operation) &&
    (match.principal === undefined || match.principal === call.principal) &&
    (match.key === undefined || match.key === call.key) &&
    Object.entries(match.context ?? {}).every(([name, value]) => call.context?.[name] === value)
  )
}
