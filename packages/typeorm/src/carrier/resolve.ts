import {
  FieldsealError,
  tokenSlot,
  type BlindIndex,
  type Envelope,
  type OperationContext,
  type SealedRow,
  type TokenSlot,
} from '@fieldseal/core/adapter'
import type { SealedColumn } from '../entity-map/entity-model.ts'
import type { Installation } from '../install/installation.ts'
import { blocked, Sealed } from './sealed.ts'
import type { SoughtTerm } from './sought-term.ts'
import { storedForm } from './stored-form.ts'
import type { WrittenRow } from './written-row.ts'

/** Most parameters of one statement; PostgreSQL counts them in 16 bits. */
const MAX_PARAMETERS = 65_535

/** True when a statement carries something to seal or to look for. */
export function carriesSealed(parameters: readonly unknown[] | undefined): parameters is readonly unknown[] {
  return parameters !== undefined && parameters.some(Sealed.isSealed)
}

/** Replaces carriers of resolved terms; undefined when something has to be sealed or asked first. */
export function replaceResolved(parameters: readonly unknown[]): unknown[] | undefined {
  const replaced: unknown[] = []
  for (const parameter of parameters) {
    const value = resolvedParameter(parameter)
    if (Sealed.isSealed(value)) return undefined
    replaced.push(value)
  }
  return replaced
}

/** The token that a carrier of a resolved term stands for; anything else as it is. */
export function resolvedParameter(parameter: unknown): unknown {
  if (!Sealed.isSealed(parameter)) return parameter
  const part = Sealed.partOf(parameter)
  return part.kind === 'sought' && part.term.resolved ? part.term.parameter(part.slot) : parameter
}

/** Computes the tokens of all terms among `parameters` that have no fresh ones, one batch for each context. */
export async function resolveTerms({ host }: Installation, parameters: Iterable<unknown>, via: unknown): Promise<void> {
  const terms = new Set<SoughtTerm>()
  for (const parameter of parameters) {
    const part = Sealed.isSealed(parameter) ? Sealed.partOf(parameter) : undefined
    if (part?.kind === 'sought' && !part.term.fresh) terms.add(part.term)
  }
  for (const [context, group] of Map.groupBy(terms, (term) => term.context)) {
    const asked = group.map((term) => term.toTerms())
    const tokens = await host.cipher.tokens(asked.flat(), context, via)
    let at = 0
    for (const [index, term] of group.entries()) term.resolve(tokens.slice(at, (at += asked[index]?.length ?? 0)))
  }
}

/** Seals what a statement writes, in one batch, computes the tokens it looks for, and gives its parameters for the driver. */
export async function resolveParameters(
  installation: Installation,
  parameters: readonly unknown[],
  via: unknown,
): Promise<unknown[]> {
  assertCount(parameters.length)
  await resolveTerms(installation, parameters, via)
  const sealed = await sealRows(installation, parameters, via)
  return parameters.map((parameter) => {
    if (!Sealed.isSealed(parameter)) return parameter
    const part = Sealed.partOf(parameter)
    if (part.kind === 'compared') throw blocked()
    if (part.kind === 'sought') return part.term.parameter(part.slot)
    const row = sealed.get(part.row)
    if (row === undefined) throw new TypeError('a row of the statement was not sealed')
    if (part.kind === 'token') return tokenOf(row, part.index, part.slot)
    return stored(installation, row, part.cell, part.row.column(part.cell))
  })
}

async function sealRows(
  { host }: Installation,
  parameters: readonly unknown[],
  via: unknown,
): Promise<Map<WrittenRow, SealedRow>> {
  const rows = new Set<WrittenRow>()
  for (const parameter of parameters) {
    const part = Sealed.isSealed(parameter) ? Sealed.partOf(parameter) : undefined
    if (part?.kind === 'value' || part?.kind === 'token') rows.add(part.row)
  }
  const sealed = new Map<WrittenRow, SealedRow>()
  for (const [context, group] of Map.groupBy(rows, (row): OperationContext => row.context)) {
    const results = await sealGroup(host, group, context, via)
    for (const [index, result] of results.entries()) sealed.set(group[index] as WrittenRow, result) // results come in the order of the input
  }
  return sealed
}

/** Seals what is stored encrypted; values that are not get their tokens alone. */
async function sealGroup(
  { cipher }: Installation['host'],
  group: readonly WrittenRow[],
  context: OperationContext,
  via: unknown,
): Promise<readonly SealedRow[]> {
  const parts = group.map((row) => ({ all: row.toRow(), ...row.toSealedRow() }))
  const toSeal = parts.filter(({ row }) => row.cells.length > 0)
  const toIndex = parts.filter(({ all, row }) => all.cells.length > row.cells.length)
  const results = await cipher.seal(
    toSeal.map(({ row }) => row),
    context,
    via,
  )
  const indexed =
    toIndex.length === 0
      ? []
      : await cipher.index(
          toIndex.map(({ all }) => all),
          context,
          via,
        )
  return parts.map((part): SealedRow => {
    const sealed = results[toSeal.indexOf(part)]
    const tokens = indexed[toIndex.indexOf(part)]
    const at = new Map(part.places.map((place, index) => [place, index]))
    return {
      envelopes: part.all.cells.map((_, place) => sealed?.envelopes[at.get(place) ?? -1] ?? null),
      tokens: new Map([...(sealed?.tokens ?? []), ...(tokens ?? [])]),
      kekIds: sealed?.kekIds ?? [],
    }
  })
}

function stored(
  { host }: Installation,
  row: SealedRow,
  cell: number,
  { field, storage }: SealedColumn,
): string | Buffer | null {
  const envelope: Envelope | null = row.envelopes[cell] ?? null
  host.guard.assertSealed(field, envelope)
  return envelope === null ? null : storedForm(envelope, storage)
}

function tokenOf(row: SealedRow, index: BlindIndex, slot: TokenSlot): Buffer | null {
  const token = row.tokens.get(index)?.[0]?.find((candidate) => tokenSlot(candidate) === slot)
  return token === undefined ? null : Buffer.from(token.buffer, token.byteOffset, token.byteLength)
}

function assertCount(parameters: number): void {
  if (parameters <= MAX_PARAMETERS) return
  throw new FieldsealError('ERR_WRITE_UNSUPPORTED', {
    reason: 'too-many-parameters',
    hint: `a statement has at most ${MAX_PARAMETERS} parameters, this one ${parameters}: write fewer rows at once, e.g. save(rows, { chunk: 1_000 })`,
  })
}
