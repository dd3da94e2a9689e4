import { inspect } from 'node:util'
import { FieldsealError, type OperationContext } from '@fieldseal/core/adapter'
import type { DataSource } from 'typeorm'
import type { SoughtTerm } from '../carrier/sought-term.ts'
import { findInstallation, type Installation } from '../install/installation.ts'
import type { OpenedRows } from '../read-path/open-rows.ts'

/** What our builders know beyond TypeORM's expression map. Clones and the builders of brackets inherit it. */
export class BuilderState {
  readonly installation: Installation
  /** The caller's, taken when the builder was created. */
  readonly context: OperationContext | undefined
  /** Conditions on blind indexes of this query, shared with the builders of its brackets. */
  readonly terms: SoughtTerm[]
  /** Inside NotBrackets: a condition must be exactly true, false or null. */
  negated = false
  /** Nesting of `where` arrays at hand: their conditions are alternatives. */
  alternatives = 0
  /** How many runs of the query build entities at this moment: their rows are opened. */
  hydrating = 0
  /** What those runs have opened; TypeORM clones a builder while it runs. */
  opened: OpenedRows[] = []

  constructor(installation: Installation, context: OperationContext | undefined, terms: SoughtTerm[] = []) {
    this.installation = installation
    this.context = context
    this.terms = terms
  }

  #brackets: boolean | undefined

  /** State for a builder made from this one: a clone, another kind of statement. */
  fork(): BuilderState {
    const copy = new BuilderState(this.installation, this.context, [...this.terms])
    copy.negated = this.negated
    if (this.hydrating > 0) {
      copy.hydrating = 1
      copy.opened = this.opened
    }
    return copy
  }

  /** Runs `fn`, in which the first builder made by this one is that of brackets: its conditions are this query's. */
  nesting<R>(negated: boolean, fn: () => R): R {
    this.#brackets = negated
    try {
      return fn()
    } finally {
      this.#brackets = undefined
    }
  }

  /** State for a builder that this one makes: of brackets, or of a sub-query of its own. */
  childState(): BuilderState {
    const negated = this.#brackets
    this.#brackets = undefined
    if (negated === undefined) return new BuilderState(this.installation, this.context)
    const inner = new BuilderState(this.installation, this.context, this.terms)
    inner.negated = this.negated || negated
    inner.alternatives = this.alternatives
    return inner
  }

  /** @throws FieldsealError ERR_TENANT_MISSING */
  requireContext(): OperationContext {
    return this.context ?? this.installation.host.capture()
  }

  [inspect.custom](): string {
    return '[fieldseal]'
  }
}

/** A builder that has a state. */
export interface Stateful {
  readonly state: BuilderState
}

/** Whether a builder is one of ours. */
export function isOwn(builder: unknown): builder is Stateful {
  return typeof builder === 'object' && builder !== null && 'state' in builder && builder.state instanceof BuilderState
}

/** The state for a builder made from `source`: another builder's, or a new one when it comes from the DataSource. */
export function stateFrom(source: object, dataSource: DataSource): BuilderState {
  if (isOwn(source)) return source.state.fork()
  const installation = findInstallation(dataSource)
  if (installation === undefined) {
    throw new FieldsealError('ERR_CONFIG_INVALID', { reason: 'the DataSource was not passed to withFieldseal' })
  }
  return new BuilderState(installation, installation.host.captureIfAny())
}
