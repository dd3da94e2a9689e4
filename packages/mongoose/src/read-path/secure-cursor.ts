import { FieldsealError } from '@fieldseal/core/adapter'
import type { Doc } from '../bson/documents.ts'

/** What we rely on of the driver's cursors, which are alike for find, aggregate and index listings. */
export interface DriverCursor {
  readonly closed: boolean
  next(): Promise<Doc | null>
  tryNext(): Promise<Doc | null>
  hasNext(): Promise<boolean>
  toArray(): Promise<Doc[]>
  forEach(visit: (document: Doc) => unknown): Promise<void>
  map(transform: (document: Doc) => unknown): DriverCursor
  clone(): DriverCursor
  rewind(): void
  close(): Promise<void>
  readBufferedDocuments(count?: number): Doc[]
  bufferedCount(): number
  explain?(...args: unknown[]): Promise<unknown>
  [Symbol.asyncIterator](): AsyncGenerator<Doc, void, void>
}

/** A cursor, or a promise of one while Mongoose waits for the connection. */
export type Made<C> = C | Promise<C>

export function whenMade<C>(made: Made<C>, secure: (cursor: C) => DriverCursor): Made<DriverCursor> {
  return made instanceof Promise ? made.then(secure) : secure(made)
}

/**
 * What can be told when a cursor is made. It must not throw there: Mongoose makes cursors where nobody would catch it, and
 * the process would end. What is wrong is an error of the first use.
 */
export type Begun<T> = { readonly value: T } | { readonly error: unknown }

export function begin<T>(run: () => T): Begun<T> {
  try {
    return { value: run() }
  } catch (error) {
    return { error }
  }
}

export function valueOf<T>(begun: Begun<T>): T {
  if ('error' in begun) throw begun.error
  return begun.value
}

/** How the documents of a cursor become those that its reader sees. */
export interface CursorSteps {
  /** Runs once, before anything is sent. */
  prepare(): Promise<void>
  /** Opens what one answer of the server brought; may leave documents out. */
  open(documents: readonly Doc[]): Promise<Doc[]>
}

/**
 * Puts our steps into one cursor of the driver: its command is completed before it is sent, and each fetched batch is
 * opened together before any of its documents is handed out.
 */
export function secureCursor<C extends DriverCursor>(cursor: C, { prepare, open }: CursorSteps): C {
  const next = cursor.next.bind(cursor)
  const tryNext = cursor.tryNext.bind(cursor)
  const rewind = cursor.rewind.bind(cursor)
  const readBuffered = cursor.readBufferedDocuments.bind(cursor)
  const explain = cursor.explain?.bind(cursor)
  const transforms: ((document: Doc) => unknown)[] = []
  // Taken by place: shift() moves all that is left, and a batch may be long.
  let [opened, taken]: [Doc[], number] = [[], 0]
  let prepared: Promise<void> | undefined
  const ready = () => (prepared ??= prepare())

  const left = () => opened.length - taken
  function take(count: number): Doc[] {
    const documents = opened.slice(taken, taken + count)
    taken += documents.length
    if (left() === 0) [opened, taken] = [[], 0]
    return documents
  }
  /** Fetches and opens until there is a document, or none to come. */
  async function fill(fetch: () => Promise<Doc | null>): Promise<boolean> {
    await ready()
    while (left() === 0) {
      const document = await fetch()
      if (document === null) return false
      for (const each of await open([document, ...readBuffered()])) opened.push(each)
    }
    return true
  }
  async function attempt<R>(run: () => Promise<R>): Promise<R> {
    try {
      return await run()
    } catch (error) {
      await cursor.close().catch(() => {})
      throw error
    }
  }
  async function transformed(document: unknown): Promise<Doc> {
    let shown = document
    for (const transform of transforms) shown = await transform(shown as Doc) // the driver's cursors take any result
    return shown as Doc
  }
  const pull = (fetch: () => Promise<Doc | null>) =>
    attempt(async () => ((await fill(fetch)) ? transformed(take(1)[0]) : null))
  async function* iterate(): AsyncGenerator<Doc, void, void> {
    try {
      for (let document = await pull(next); document !== null; document = await pull(next)) yield document
    } finally {
      if (!cursor.closed) await cursor.close().catch(() => {})
    }
  }

  return Object.assign(cursor, {
    next: () => pull(next),
    tryNext: () => pull(tryNext),
    hasNext: () => attempt(() => fill(next)),
    toArray: () =>
      attempt(async () => {
        const documents: Doc[] = []
        while (await fill(next)) {
          for (const document of take(left()))
            documents.push(transforms.length === 0 ? document : await transformed(document))
        }
        if (!cursor.closed) await cursor.close().catch(() => {})
        return documents
      }),
    async forEach(visit: (document: Doc) => unknown) {
      for await (const document of iterate()) if (visit(document) === false) return
    },
    map(transform: (document: Doc) => unknown) {
      transforms.push(transform)
      return cursor
    },
    clone(): never {
      throw new FieldsealError('ERR_QUERY_UNSUPPORTED', {
        reason: 'unsupported-method',
        hint: 'clone() of a cursor: make the query once more',
      })
    },
    rewind() {
      take(left())
      rewind()
    },
    readBufferedDocuments: (count?: number) => take(count ?? left()),
    bufferedCount: left,
    ...(explain === undefined
      ? {}
      : {
          async explain(...args: unknown[]) {
            await ready()
            return explain(...args)
          },
        }),
    [Symbol.asyncIterator]: iterate,
  })
}
