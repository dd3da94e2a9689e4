import { Socket } from 'node:net'
import type { RecordSource } from '@fieldseal/core/adapter'
import { plaintextForms } from './plaintext-forms.ts'

/** Where and in which form a canary was found. */
export interface LeakHit {
  readonly canary: string
  readonly form: string
  readonly where: string
}

/** Knows plaintexts and looks for them in everything that leaves the process. */
export interface LeakOracle extends AsyncDisposable {
  /** Registers a plaintext of at least 4 characters and returns it. */
  canary(text: string): string
  /** Adds bytes that the oracle cannot see itself: a custom stream, a log file, an error's text. */
  observe(bytes: Uint8Array | string, where: string): void
  /** All canaries found so far, in what was observed and in stored rows. */
  hits(options?: { readonly stored?: readonly RecordSource[] }): Promise<readonly LeakHit[]>
}

type Chunk = Uint8Array | string
type WriteHook = (chunk: Chunk, encoding: BufferEncoding, done: (error?: Error | null) => void) => void
type WritevHook = (chunks: { chunk: Chunk; encoding: BufferEncoding }[], done: (error?: Error | null) => void) => void
interface SocketHooks {
  _write: WriteHook
  _writev: WritevHook
}

const SHORTEST = 4

export interface LeakOracleOptions {
  /** `process`: every socket write (TLS too, before encryption), stdout and stderr of this process. `none`: what is handed to `observe`. @defaultValue 'process' */
  readonly taps?: 'process' | 'none'
}

/**
 * Taps this process until disposed; one at a time.
 *
 * `await using oracle = leakOracle()`
 */
export function leakOracle({ taps = 'process' }: LeakOracleOptions = {}): LeakOracle {
  const canaries = new Set<string>()
  const seen = new Map<string, Buffer[]>()

  function observe(bytes: Chunk, where: string, encoding: BufferEncoding = 'utf8'): void {
    const chunks = seen.get(where) ?? []
    // A copy: drivers reuse their buffers.
    chunks.push(typeof bytes === 'string' ? Buffer.from(bytes, encoding) : Buffer.from(bytes))
    seen.set(where, chunks)
  }

  const restore =
    taps === 'none' ? [] : [tapSockets(observe), tapStream('stdout', observe), tapStream('stderr', observe)]
  return {
    canary(text) {
      if (text.length < SHORTEST) throw new RangeError(`a canary needs at least ${SHORTEST} characters`)
      canaries.add(text)
      return text
    },
    observe,
    async hits({ stored = [] } = {}) {
      // One text per place, so that a canary that was split over two chunks is found.
      const places = new Map([...seen].map(([where, chunks]) => [where, Buffer.concat(chunks).toString('latin1')]))
      for (const source of stored) {
        for (const map of source.models) places.set(`rows of ${map.id}`, await textOf(source, map))
      }
      return [...places].flatMap(([where, text]) => search(text, where, canaries))
    },
    async [Symbol.asyncDispose]() {
      for (const undo of restore) undo()
    },
  }
}

function search(text: string, where: string, canaries: ReadonlySet<string>): LeakHit[] {
  const lower = text.toLowerCase()
  return [...canaries].flatMap((canary) =>
    plaintextForms(canary)
      .filter(({ needle, anyCase }) => (anyCase === true ? lower : text).includes(needle))
      .map(({ name }) => ({ canary, form: name, where })),
  )
}

async function textOf(source: RecordSource, map: RecordSource['models'][number]): Promise<string> {
  const parts: string[] = []
  for await (const page of source.pages(map, { size: 500 })) {
    for (const { cells, columns } of page) {
      for (const value of [...Object.values(cells), ...Object.values(columns)]) parts.push(latin1Of(value))
    }
  }
  return parts.join('\n')
}

function latin1Of(value: unknown): string {
  if (value instanceof Uint8Array) return Buffer.from(value).toString('latin1')
  return Buffer.from(typeof value === 'string' ? value : (JSON.stringify(value) ?? ''), 'utf8').toString('latin1')
}

/** Through the hooks of Node's stream contract, which `write`, `end` and corked writes all end in. */
function tapSockets(observe: (bytes: Chunk, where: string, encoding?: BufferEncoding) => void): () => void {
  const hooks = Socket.prototype as unknown as SocketHooks // the contract of stream.Writable, not in the public types
  const { _write, _writev } = hooks
  hooks._write = function (this: Socket, chunk, encoding, done) {
    observe(chunk, 'socket', encoding)
    _write.call(this as never, chunk, encoding, done)
  }
  hooks._writev = function (this: Socket, chunks, done) {
    for (const { chunk, encoding } of chunks) observe(chunk, 'socket', encoding)
    _writev.call(this as never, chunks, done)
  }
  return () => Object.assign(hooks, { _write, _writev })
}

function tapStream(
  name: 'stdout' | 'stderr',
  observe: (bytes: Chunk, where: string, encoding?: BufferEncoding) => void,
): () => void {
  const stream = process[name]
  const write = stream.write
  stream.write = function (this: unknown, chunk: Chunk, ...rest: never[]): boolean {
    observe(chunk, name, typeof rest[0] === 'string' ? rest[0] : undefined)
    return write.call(stream, chunk, ...rest)
  } as typeof stream.write
  return () => void (stream.write = write)
}
