import { chmodSync, closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import fc from 'fast-check'
import { afterAll, expect, it } from 'vitest'
import type { AuditEvent } from '../../src/observe/audit.ts'
import { jsonLinesAudit } from '../../src/observe/json-lines-audit.ts'

const folder = mkdtempSync(path.join(tmpdir(), 'fieldseal-audit-'))
afterAll(() => rmSync(folder, { recursive: true }))

let files = 0
const newFile = () => path.join(folder, `${files++}.jsonl`)
const event = (actor: string): AuditEvent => ({
  type: 'act',
  operation: 'activate',
  outcome: 'ok',
  at: '2026-01-01T00:00:00.000Z',
  app: 'clinic',
  actor,
})
const linesOf = (file: string) =>
  readFileSync(file, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => (JSON.parse(line) as { actor: string }).actor)

it('appends one JSON object per line, at once, to what is there', () => {
  const file = newFile()
  jsonLinesAudit({ file }).write(event('one'))
  const sink = jsonLinesAudit({ file })
  sink.write(event('two'))
  sink.write(event('three'))
  expect(linesOf(file)).toEqual(['one', 'two', 'three']) // without close: the system has it
  sink.close()
})

it('makes the file for its owner only, and only with the first event', () => {
  const file = newFile()
  const sink = jsonLinesAudit({ file })
  expect(existsSync(file)).toBe(false)
  sink.write(event('x'))
  expect(statSync(file).mode & 0o777).toBe(0o600)
})

it('keeps an event on one line whatever its texts hold', () => {
  fc.assert(
    fc.property(fc.array(fc.string({ unit: 'binary' }), { minLength: 1, maxLength: 5 }), (actors) => {
      const file = newFile()
      const sink = jsonLinesAudit({ file })
      for (const actor of actors) sink.write(event(`x${actor}\n`))
      expect(linesOf(file)).toEqual(actors.map((actor) => `x${actor}\n`))
      sink.close()
    }),
    { numRuns: 30 },
  )
})

it.skipIf(process.platform !== 'linux')('throws when the disk is full', () => {
  expect(() => jsonLinesAudit({ file: '/dev/full' }).write(event('x'))).toThrow(
    expect.objectContaining({ code: 'ENOSPC' }),
  )
})

it('throws when it may not or cannot write, and goes on when it can again', () => {
  const gone = path.join(folder, 'none', 'audit.jsonl')
  expect(() => jsonLinesAudit({ file: gone }).write(event('x'))).toThrow(expect.objectContaining({ code: 'ENOENT' }))
  expect(() => jsonLinesAudit({ file: folder }).write(event('x'))).toThrow(expect.objectContaining({ code: 'EISDIR' }))
  const file = newFile()
  closeSync(openSync(file, 'a', 0o600))
  chmodSync(file, 0o400)
  const sink = jsonLinesAudit({ file })
  const asRoot = process.getuid?.() === 0 // may write anyway
  if (!asRoot) expect(() => sink.write(event('x'))).toThrow(expect.objectContaining({ code: 'EACCES' }))
  chmodSync(file, 0o600)
  sink.write(event('y'))
  expect(linesOf(file)).toEqual(['y'])
})

it('takes nothing after it was closed', () => {
  const sink = jsonLinesAudit({ file: newFile() })
  sink.write(event('x'))
  sink.close()
  sink.close()
  expect(() => sink.write(event('y'))).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }))
})

it('names the option that is missing', () => {
  for (const file of ['', undefined, 7])
    expect(() => jsonLinesAudit({ file: file as string })).toThrow(
      expect.objectContaining({ code: 'ERR_CONFIG_INVALID' }),
    )
})
