import { inspect } from 'node:util'
import { Socket } from 'node:net'
import type { Logger, QueryRunner } from 'typeorm'

/** What left this process towards the database, and what TypeORM told its logger. */
export class Wire {
  readonly #sent: Buffer[] = []
  readonly #logged: string[] = []
  readonly statements: string[] = []

  sent(chunk: Uint8Array): void {
    this.#sent.push(Buffer.from(chunk))
  }

  traffic(): Buffer {
    return Buffer.concat(this.#sent)
  }

  logged(): string {
    return this.#logged.join('\n')
  }

  /** Where a text is found, as UTF-8, UTF-16, hex or base64. */
  find(canary: string): string[] {
    const bytes = Buffer.from(canary, 'utf8')
    const traffic = this.traffic()
    const log = this.logged()
    const forms = {
      text: canary,
      hex: bytes.toString('hex'),
      bytes: JSON.stringify([...bytes]).slice(1, -1),
      ...Object.fromEntries([0, 1, 2].map((offset) => [`base64 at ${offset}`, base64Core(bytes, offset)])),
    }
    return [
      ...Object.entries(forms).flatMap(([form, text]) => [
        ...(traffic.includes(text) ? [`wire: ${form}`] : []),
        ...(log.includes(text) ? [`log: ${form}`] : []),
      ]),
      ...(traffic.includes(Buffer.from(canary, 'utf16le')) ? ['wire: utf-16'] : []),
    ]
  }

  /** Statements since the last call, without those of transactions and the key store. */
  take(pattern = /^(INSERT|UPDATE|DELETE)/): string[] {
    return this.statements.splice(0).filter((sql) => pattern.test(sql) && !sql.includes('fieldseal_'))
  }

  logger(): Logger {
    const note = (...what: unknown[]) => {
      for (const each of what)
        this.#logged.push(inspect(each, { depth: 6, maxArrayLength: null, maxStringLength: null }))
    }
    return {
      logQuery: (query: string, parameters?: unknown[], _runner?: QueryRunner) => {
        this.statements.push(query)
        note(query, parameters, safeJson(parameters))
      },
      logQueryError: (error, query, parameters) => note(error, query, parameters),
      logQuerySlow: (_time, query, parameters) => note(query, parameters),
      logSchemaBuild: note,
      logMigration: note,
      log: (_level, message: unknown) => note(message),
    }
  }
}

/** A socket that shows what it sends. */
export class TappedSocket extends Socket {
  readonly #wire: Wire
  constructor(wire: Wire) {
    super()
    this.#wire = wire
  }
  override _write(chunk: Buffer | string, encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#wire.sent(Buffer.from(chunk as string, encoding))
    super._write(chunk, encoding, done)
  }
  override _writev(
    chunks: { chunk: Buffer | string; encoding: BufferEncoding }[],
    done: (error?: Error | null) => void,
  ): void {
    for (const { chunk, encoding } of chunks) this.#wire.sent(Buffer.from(chunk as string, encoding))
    super._writev?.(chunks, done)
  }
}

/** The middle of the base64 of `bytes` when `offset` bytes stand before them: independent of their neighbours. */
function base64Core(bytes: Buffer, offset: number): string {
  const encoded = Buffer.concat([Buffer.alloc(offset), bytes]).toString('base64')
  return encoded.slice(4, -4)
}

function safeJson(value: unknown): string {
  return JSON.stringify(value, (_, each: unknown) => (typeof each === 'bigint' ? String(each) : each)) ?? ''
}
