import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs'
import { FieldsealError } from '../errors/fieldseal-error.ts'
import type { AuditEvent, AuditSink } from './audit.ts'

export interface JsonLinesAuditOptions {
  /** Path of the file; made when it is missing, readable by its owner only, never truncated. */
  readonly file: string
}

/** A sink that has written when it returns. */
export interface JsonLinesAudit extends AuditSink {
  write(event: AuditEvent): void
  close(): void
}

/**
 * An audit trail in a file: one JSON object per line, appended by one write each, so that several processes may share
 * the file. Writes synchronously: an entry is with the operating system before the act that it tells of begins. `close`
 * waits until the disk has it.
 *
 * Every failure to write is thrown (ENOSPC, EACCES, …) and the next event tries again; a line that was cut short stays
 * behind on a line of its own.
 *
 * @throws FieldsealError ERR_CONFIG_INVALID without a file
 */
export function jsonLinesAudit({ file }: JsonLinesAuditOptions): JsonLinesAudit {
  if (typeof file !== 'string' || file === '')
    throw new FieldsealError('ERR_CONFIG_INVALID', { field: 'audit.file', reason: 'a path' })
  let descriptor: number | undefined
  let cutShort = false
  let closed = false

  function drop(): void {
    const open = descriptor
    descriptor = undefined
    if (open !== undefined) closeSync(open)
  }

  return {
    write(event) {
      if (closed) throw new FieldsealError('ERR_CLOSED')
      const line = Buffer.from(`${cutShort ? '\n' : ''}${JSON.stringify(event)}\n`)
      let written = 0
      try {
        descriptor ??= openSync(file, 'a', 0o600)
        while (written < line.length) written += writeSync(descriptor, line, written)
        cutShort = false
      } catch (error) {
        cutShort ||= written > 0
        try {
          drop() // a new descriptor next time: the file may have been replaced
        } catch {
          // Invariant: the first failure is the one that is reported.
        }
        throw error
      }
    },
    close() {
      closed = true
      if (descriptor === undefined) return
      try {
        fsyncSync(descriptor)
      } finally {
        drop()
      }
    },
  }
}
