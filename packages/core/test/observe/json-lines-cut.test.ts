import type * as Fs from 'node:fs'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, expect, it, vi } from 'vitest'
import type { AuditEvent } from '../../src/observe/audit.ts'
import { jsonLinesAudit } from '../../src/observe/json-lines-audit.ts'

/** How many bytes the disk still takes. */
const disk = vi.hoisted(() => ({ left: Number.POSITIVE_INFINITY }))
vi.mock('node:fs', async (original) => {
  const fs = await original<typeof Fs>()
  return {
    ...fs,
    writeSync(descriptor: number, bytes: Buffer, offset: number) {
      const length = Math.min(bytes.length - offset, disk.left)
      if (length === 0) throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' })
      disk.left -= length
      return fs.writeSync(descriptor, bytes, offset, length)
    },
  }
})

const folder = mkdtempSync(path.join(tmpdir(), 'fieldseal-audit-'))
afterAll(() => rmSync(folder, { recursive: true }))

const event = (actor: string): AuditEvent => ({
  type: 'act',
  operation: 'activate',
  outcome: 'ok',
  at: '2026-01-01T00:00:00.000Z',
  app: 'clinic',
  actor,
})

it('leaves a line that a full disk cut short on a line of its own, and loses none before or after it', () => {
  const file = path.join(folder, 'audit.jsonl')
  const sink = jsonLinesAudit({ file })
  sink.write(event('one'))
  disk.left = 10
  expect(() => sink.write(event('two'))).toThrow(expect.objectContaining({ code: 'ENOSPC' }))
  expect(() => sink.write(event('three'))).toThrow(expect.objectContaining({ code: 'ENOSPC' }))
  disk.left = Number.POSITIVE_INFINITY
  sink.write(event('four'))
  sink.close()
  const lines = readFileSync(file, 'utf8').trimEnd().split('\n')
  expect(lines).toHaveLength(3)
  expect([lines[0], lines[2]].map((line) => JSON.parse(line ?? '') as AuditEvent)).toEqual([
    event('one'),
    event('four'),
  ])
  expect(lines[1]).toHaveLength(10)
})
