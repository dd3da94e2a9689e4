import { PassThrough } from 'node:stream'
import { WriteStream } from 'node:tty'
import { stripVTControlCharacters } from 'node:util'
import { FieldsealError } from '@fieldseal/core'
import { advised } from '@fieldseal/migrate'
import { expect, it, vi } from 'vitest'
import { EXIT, exitCodeOf, UsageError } from '../src/exit-codes.ts'
import { findingsText, type Output, paint, print, printError, reportText, say, seconds } from '../src/output.ts'
import { createProgressView } from '../src/progress.ts'

/** A stream that keeps what is written, as a terminal or as a file. */
function stream(isTTY: boolean) {
  const written: string[] = []
  const target = new PassThrough()
  target.on('data', (chunk: Buffer) => written.push(chunk.toString()))
  const { getColorDepth, hasColors } = WriteStream.prototype // they ask the environment
  const terminal = { isTTY, columns: 120, getColorDepth, hasColors, cursorTo: () => true }
  return { written, target: Object.assign(target, terminal) as unknown as NodeJS.WriteStream }
}

function output(isTTY: boolean, json = false) {
  const out = stream(isTTY)
  const err = stream(isTTY)
  return { out, err, output: { json, stdout: out.target, stderr: err.target } satisfies Output }
}

const PROGRESS = {
  verb: 'rewrap',
  model: 'patients',
  pass: 1,
  rows: 50,
  total: 100,
  updated: 50,
  rowsPerSecond: 25,
  etaMs: 2_000,
}

it('draws a bar with rate and time left on a terminal, and writes lines of JSON elsewhere', async () => {
  const terminal = output(true)
  const view = createProgressView(terminal.output)
  view.show(PROGRESS)
  view.show({ ...PROGRESS, model: 'notes' })
  view.end()
  expect(terminal.err.written.join('')).toMatch(/rewrap patients \[.*50 % 50\/100 rows, 25\/s, 2.0 s left/)
  const file = output(false)
  const lines = createProgressView(file.output)
  lines.show(PROGRESS)
  lines.show(PROGRESS) // within the same second
  lines.show({ ...PROGRESS, rows: 100 })
  lines.end()
  expect(file.err.written.map((line) => (JSON.parse(line) as { progress: { rows: number } }).progress.rows)).toEqual([
    50, 100,
  ])
})

it('uses colours on a terminal only, and none where NO_COLOR is set', () => {
  vi.stubEnv('NO_COLOR', undefined)
  vi.stubEnv('FORCE_COLOR', undefined)
  vi.stubEnv('NODE_DISABLE_COLORS', undefined)
  vi.stubEnv('CI', undefined)
  vi.stubEnv('TERM', 'xterm-256color')
  expect(paint(output(true).output, 'red', 'x')).toContain('\u001B[')
  expect(paint(output(false).output, 'red', 'x')).toBe('x')
  vi.stubEnv('NO_COLOR', '1')
  expect(paint(output(true).output, 'red', 'x')).toBe('x')
  vi.unstubAllEnvs()
})

it('shows nothing that a terminal would obey, whatever an id holds', () => {
  const people = output(true)
  print(people.output, {}, () => 'subject:a:\u001B[2J\u202Ex\nnext')
  say(people.output, '\u009B2J')
  printError(people.output, new UsageError('\u0007'))
  const shown = [...people.out.written, ...people.err.written].join('|')
  expect(stripVTControlCharacters(shown)).toBe('subject:a:?[2J?x\nnext\n|?2J\n|fieldseal: ?\n')
})

it('ends by the kind of an error', () => {
  const codes = [
    new UsageError('x'),
    new UsageError('x', 'unavailable'),
    new FieldsealError('ERR_CONFIG_INVALID'),
    new FieldsealError('ERR_ROWS_REMAIN'),
    new FieldsealError('ERR_KEY_NEEDED'),
    new FieldsealError('ERR_PLAN_OUTDATED'),
    new FieldsealError('ERR_KMS_ACCESS_DENIED'),
    new FieldsealError('ERR_KEY_ERASED'),
    new FieldsealError('ERR_KMS_TIMEOUT'),
    new FieldsealError('ERR_KEY_RECORD_INVALID'),
    Object.assign(new Error('x'), { code: 'ECONNREFUSED' }),
    Object.assign(new Error('x'), { code: '57P01' }),
    new AggregateError([Object.assign(new Error('x'), { code: 'ECONNREFUSED' })]),
    new DOMException('x', 'AbortError'),
    new Error('x'),
    'x',
  ].map((error) => exitCodeOf(advised(error)))
  expect(codes).toEqual([2, 5, 2, 3, 4, 4, 5, 5, 5, 1, 5, 5, 5, 130, 1, 1])
  expect(Object.values(EXIT)).toEqual([0, 1, 2, 3, 4, 5, 130])
})

it('prints errors for people and for programs', () => {
  const error = new FieldsealError('ERR_KEY_NEEDED', { kekId: 'abc', hint: 'rewrap' })
  const people = output(false)
  printError(people.output, error)
  expect(people.err.written.join('')).toMatch(/^fieldseal: ERR_KEY_NEEDED: .*; hint: rewrap\n$/)
  const programs = output(false, true)
  printError(programs.output, error)
  expect(JSON.parse(programs.out.written.join(''))).toMatchObject({
    error: { code: 'ERR_KEY_NEEDED', kind: 'refused' },
  })
  expect(programs.err.written).toEqual([])
})

it('says in a report what was done, what remains and why', () => {
  const model = {
    model: 'patients',
    passes: 1,
    rows: 3,
    updated: 1,
    unchanged: 1,
    failed: 1,
    denied: 0,
    erased: 0,
    changed: 0,
    gone: 0,
    remaining: 1,
    counts: { values: 9 },
    failures: [{ key: '7', code: 'ERR_DECRYPT_FAILED' as const }],
  }
  const report = {
    verb: 'rewrap',
    dryRun: false,
    resumed: true,
    elapsedMs: 1_000,
    models: [model],
    failures: [{ tenant: 'b', code: 'ERR_KMS_ACCESS_DENIED' as const, hint: 'have it allowed' }],
    remaining: 1,
    notes: ['n'],
  }
  expect(reportText(report)).toMatch(
    /checkpoint[\s\S]*patients +3[\s\S]*9 values[\s\S]*ERR_DECRYPT_FAILED[\s\S]*not done: b: ERR_KMS_ACCESS_DENIED; have it allowed\nnote: n\n1 rows remain, 1.0 s/,
  )
  expect(reportText({ ...report, dryRun: true, estimatedMs: 125_000 })).toMatch(/about 2 min 5 s; nothing was written/)
  expect(seconds(60_000)).toBe('60 s')
  expect(findingsText([{ severity: 'error', where: 'a', problem: 'b', fix: 'c' }])).toBe('error: a: b\n  c')
})
