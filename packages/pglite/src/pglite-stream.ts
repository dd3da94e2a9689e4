import { Duplex } from 'node:stream'
import type { PGlite } from '@electric-sql/pglite'

// Messages after which a client waits for an answer: Sync, Query, Flush, and those of COPY.
const AWAITS_ANSWER = 'SQHcdf'

/** PGlite behind node-postgres, in-process: a socket that speaks the wire protocol to `execProtocolRaw`. `onTraffic` sees both directions. */
export class PgliteStream extends Duplex {
  readonly #db: PGlite
  #received: Buffer = Buffer.alloc(0)
  #started = false
  #work: Promise<void> = Promise.resolve()

  readonly #onTraffic: ((chunk: Buffer) => void) | undefined

  constructor(db: PGlite, onTraffic?: (chunk: Buffer) => void) {
    super()
    this.#db = db
    this.#onTraffic = onTraffic
  }

  // What node-postgres calls on a socket.
  setNoDelay(): this {
    return this
  }
  setKeepAlive(): this {
    return this
  }
  ref(): this {
    return this
  }
  unref(): this {
    return this
  }
  connect(): this {
    queueMicrotask(() => this.emit('connect'))
    return this
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    this.#onTraffic?.(chunk)
    this.#received = Buffer.concat([this.#received, chunk])
    this.#work = this.#work.then(() => this.#answer())
    void settle(this.#work, done)
  }

  override _final(done: (error?: Error | null) => void): void {
    this.push(null)
    done()
  }

  async #answer(): Promise<void> {
    const length = this.#completeBytes()
    if (length === 0) return
    const messages = this.#received.subarray(0, length)
    this.#received = this.#received.subarray(length)
    const answer = await this.#db.runExclusive(() => this.#db.execProtocolRaw(new Uint8Array(messages)))
    if (answer.length === 0) return
    this.#onTraffic?.(Buffer.from(answer))
    this.push(Buffer.from(answer))
  }

  /** Bytes up to and including the last message that awaits an answer. */
  #completeBytes(): number {
    let end = 0
    let complete = 0
    for (;;) {
      const head = this.#started ? 5 : 4
      if (this.#received.length - end < head) return complete
      const length = this.#received.readInt32BE(end + head - 4) + head - 4
      if (this.#received.length - end < length) return complete
      const type = this.#started ? String.fromCharCode(this.#received[end] ?? 0) : ''
      end += length
      if (type === 'X') return 0 // Terminate: nobody waits any more
      if (!this.#started || AWAITS_ANSWER.includes(type)) complete = end
      this.#started = true
    }
  }
}

async function settle(work: Promise<void>, done: (error?: Error | null) => void): Promise<void> {
  let failure: Error | undefined
  await work.catch((error: Error) => {
    failure = error
  })
  done(failure)
}
