import type { CallFacts, Policy } from '../shared/calls.ts'

/** What a request carries beside its encryption context, by the names of condition keys: `aws:MultiFactorAuthAge`. */
export type ConditionFacts = Readonly<Record<string, string | readonly string[] | undefined>>

interface Statement {
  readonly Sid?: string
  readonly Effect: 'Allow' | 'Deny'
  readonly Principal: { readonly AWS: string | readonly string[] }
  readonly Action: string | readonly string[]
  readonly Condition?: Readonly<Record<string, Readonly<Record<string, string | readonly string[]>>>>
}

/**
 * A key policy as a policy of the emulator: what no statement allows is denied, and a deny beats all.
 *
 * Knows the operators that the policies in docs/kms use; an unknown one is an error, so that no condition is passed over.
 * `kms:` is added to operations. IAM policies beside the key policy are not modelled.
 *
 * @throws Error when the document is no key policy
 * @see https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
 */
export function awsPolicy(document: unknown, factsOf: (call: CallFacts) => ConditionFacts = () => ({})): Policy {
  const statements = statementsOf(document)
  return (call) => {
    const context = Object.entries(call.context ?? {})
    const facts: ConditionFacts = {
      ...factsOf(call),
      ...Object.fromEntries(context.map(([name, value]) => [`kms:EncryptionContext:${name}`, value])),
      'kms:EncryptionContextKeys': context.length === 0 ? undefined : context.map(([name]) => name),
    }
    const applying = statements.filter(
      ({ Principal, Action, Condition }) =>
        listOf(Principal.AWS).some((one) => one === '*' || one === call.principal) &&
        listOf(Action).some((one) => one === `kms:${call.operation}`) &&
        Object.entries(Condition ?? {}).every(([operator, tests]) =>
          Object.entries(tests).every(([key, wanted]) => holds(operator, facts[key], listOf(wanted))),
        ),
    )
    const denied = applying.some(({ Effect }) => Effect === 'Deny')
    return !denied && applying.some(({ Effect }) => Effect === 'Allow') ? 'allow' : 'deny'
  }
}

/** Several wanted values: one must match, or none for a negated operator. A missing fact fails all but the negated. */
function holds(operator: string, fact: string | readonly string[] | undefined, wanted: readonly string[]): boolean {
  if (operator === 'Null') return wanted.includes(String(fact === undefined))
  if (operator === 'ForAllValues:StringEquals') return listOf(fact ?? []).every((one) => wanted.includes(one))
  if (operator === 'StringNotEquals') return fact === undefined || listOf(fact).every((one) => !wanted.includes(one))
  if (fact === undefined) return false
  const compare = COMPARISONS[operator]
  if (compare === undefined) throw new Error(`the condition operator ${operator} is not known`)
  return listOf(fact).some((one) => wanted.some((other) => compare(one, other)))
}

const COMPARISONS: Readonly<Record<string, (fact: string, wanted: string) => boolean>> = {
  StringEquals: (fact, wanted) => fact === wanted,
  Bool: (fact, wanted) => fact.toLowerCase() === wanted.toLowerCase(),
  NumericLessThan: (fact, wanted) => Number(fact) < Number(wanted),
  NumericGreaterThanEquals: (fact, wanted) => Number(fact) >= Number(wanted),
  DateGreaterThanEquals: (fact, wanted) => Date.parse(fact) >= Date.parse(wanted),
  DateLessThan: (fact, wanted) => Date.parse(fact) < Date.parse(wanted),
}

function statementsOf(document: unknown): readonly Statement[] {
  const isPolicy = typeof document === 'object' && document !== null && 'Version' in document && 'Statement' in document
  if (!isPolicy || document.Version !== '2012-10-17' || !Array.isArray(document.Statement))
    throw new Error('not a policy of version 2012-10-17')
  for (const statement of document.Statement as readonly Partial<Statement>[]) {
    const { Effect, Principal, Action } = statement
    // AWS accepts a statement without one of these and lets it have no effect.
    if ((Effect !== 'Allow' && Effect !== 'Deny') || Principal?.AWS === undefined || Action === undefined)
      throw new Error(`the statement ${statement.Sid ?? '?'} lacks Effect, Principal or Action`)
  }
  return document.Statement as readonly Statement[] // checked member by member
}

function listOf(value: string | readonly string[]): readonly string[] {
  return typeof value === 'string' ? [value] : value
}
