import { styleText } from 'node:util'
import { isFieldsealError } from '@fieldseal/core'
import {
  type Finding,
  type KekRotation,
  type Report,
  reportOf,
  rotationOf,
  table,
  type TenantFailure,
} from '@fieldseal/migrate'
import { UsageError } from './exit-codes.ts'

/** Where a command prints: results to `stdout`, everything else to `stderr`. */
export interface Output {
  readonly json: boolean
  readonly stdout: NodeJS.WriteStream
  readonly stderr: NodeJS.WriteStream
}

/** One result: as JSON, or as text for people. */
export function print({ json, stdout }: Output, value: unknown, text: () => string): void {
  stdout.write(json ? `${JSON.stringify(value)}\n` : shown(text()))
}

/** What a person should know beside the result. */
export function say({ json, stderr }: Output, text: string): void {
  if (!json) stderr.write(shown(text))
}

/** Colours only on a terminal, and not where NO_COLOR is set. */
export function paint(output: Output, colour: 'red' | 'yellow', text: string): string {
  return styleText(colour, text, { stream: output.stderr, validateStream: true })
}

export function printError(output: Output, error: unknown): void {
  const report = reportOf(error)
  const rotation = rotationOf(error)
  const known = isFieldsealError(error)
  const message = messageOf(error)
  if (output.json) {
    const kind = error instanceof UsageError ? { kind: error.kind } : {}
    const facts = known ? { code: error.code, kind: error.kind, message, details: error.details } : { ...kind, message }
    output.stdout.write(`${JSON.stringify({ error: facts, report: report ?? rotation })}\n`)
    return
  }
  if (rotation !== undefined) output.stdout.write(shown(rotationText(rotation)))
  if (report !== undefined) output.stdout.write(shown(reportText(report)))
  output.stderr.write(`${paint(output, 'red', 'fieldseal')}: ${shown(message)}`)
}

/** Node gives the errors of a connection tried by several addresses no message of their own. */
function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if (error.message !== '') return error.message
  return 'code' in error && typeof error.code === 'string' ? error.code : error.name
}

export function reportText(report: Report): string {
  const { verb, tenant, models, failures, dryRun, resumed, elapsedMs, estimatedMs, notes, remaining } = report
  const head = `${verb}${tenant === undefined ? '' : ` of tenant ${tenant}`}${dryRun ? ', dry run' : ''}${resumed ? ', went on from a checkpoint' : ''}`
  const rows = models.map((model) => [
    model.model,
    model.rows,
    model.updated,
    model.unchanged,
    model.failed,
    model.denied,
    model.erased,
    model.changed + model.gone,
    model.remaining,
    Object.entries(model.counts)
      .map(([name, count]) => `${count} ${name}`)
      .join(', '),
  ])
  const ofRows = models.flatMap(({ model, failures: found }) =>
    found.slice(0, 20).map(({ key, field, code, tenant: of }) => [model, key, of ?? '', field ?? '', code]),
  )
  return [
    head,
    table(['model', 'rows', 'updated', 'unchanged', 'failed', 'denied', 'erased', 'changed', 'remaining', ''], rows),
    ...(ofRows.length === 0 ? [] : ['', table(['model', 'key', 'tenant', 'field', 'why'], ofRows)]),
    ...failuresText(failures),
    ...notes.map((note) => `note: ${note}`),
    dryRun
      ? `would take about ${seconds(estimatedMs ?? 0)}; nothing was written`
      : `${remaining === 0 && failures.length === 0 ? 'done' : `${remaining} rows remain`}, ${seconds(elapsedMs)}`,
  ].join('\n')
}

export function rotationText({ rotated, due, rewraps, failures }: KekRotation): string {
  return [
    table(
      ['tenant', 'keyspace', 'new key', 'version', 'decrypt-only now'],
      rotated.map((one) => [one.tenant, one.keyspace, one.kekId, one.version, one.demoted.join(' ')]),
    ),
    ...due.map(
      ({ tenant, keyspace, why, dueAt, overdue }) =>
        `${overdue ? 'due' : 'soon due'}: ${tenant} ${keyspace} (${why}, ${dueAt.toISOString()})`,
    ),
    ...rewraps.map(reportText),
    ...failuresText(failures),
  ].join('\n')
}

function failuresText(failures: readonly TenantFailure[]): readonly string[] {
  return failures.map(
    ({ tenant, keyspace, code, hint }) =>
      `not done: ${tenant}${keyspace === undefined ? '' : ` ${keyspace}`}: ${code}; ${hint}`,
  )
}

export function findingsText(findings: readonly Finding[]): string {
  if (findings.length === 0) return 'nothing found'
  return findings.map(({ severity, where, problem, fix }) => `${severity}: ${where}: ${problem}\n  ${fix}`).join('\n')
}

export function seconds(ms: number): string {
  if (ms < 10_000) return `${(ms / 1_000).toFixed(1)} s`
  const all = Math.round(ms / 1_000)
  return all < 120 ? `${all} s` : `${Math.floor(all / 60)} min ${all % 60} s`
}

/** Whole lines, without what a terminal would obey: ids of data subjects may hold anything. */
function shown(text: string): string {
  const safe = text.replaceAll(/[^\P{C}\n]/gu, '?')
  return safe.endsWith('\n') ? safe : `${safe}\n`
}
