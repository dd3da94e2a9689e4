import { readFileSync } from 'node:fs'
import path from 'node:path'

/** Where the vectors stand: beside the specification that they are part of. */
export const VECTORS = path.join(import.meta.dirname, '..', '..', '..', '..', 'docs', 'spec', 'vectors')

export interface VectorTest {
  readonly comment: string
  readonly flags: readonly string[]
  readonly result: 'valid' | 'invalid'
  /** Of an invalid one: why it is to be refused. */
  readonly reason?: string
}
export interface VectorGroup<T extends VectorTest = VectorTest> {
  /** What the tests of the group have in common, beside inputs. */
  readonly type: string
  readonly tests: readonly T[]
}
export interface VectorFile {
  readonly algorithm: string
  readonly header: readonly string[]
  /** What each flag means. */
  readonly notes: Readonly<Record<string, string>>
  readonly testGroups: readonly VectorGroup[]
}

/** The text of a file in Wycheproof's shape: tests numbered through, every flag explained, every comment used once. */
export function vectorText({ algorithm, header, notes, testGroups }: VectorFile): string {
  const comments = new Set<string>()
  const used = new Set<string>()
  let tcId = 0
  const groups = testGroups.map(({ tests, ...group }) => ({
    ...group,
    tests: tests.map((test) => {
      if (comments.has(test.comment)) throw new Error(`${algorithm}: '${test.comment}' stands twice`)
      if ((test.result === 'invalid') !== (test.reason !== undefined)) throw new Error(`${test.comment}: reason`)
      comments.add(test.comment)
      for (const flag of test.flags) {
        if (notes[flag] === undefined) throw new Error(`${algorithm}: no note for ${flag}`)
        used.add(flag)
      }
      return { tcId: ++tcId, ...test }
    }),
  }))
  const unused = Object.keys(notes).filter((flag) => !used.has(flag))
  if (unused.length > 0) throw new Error(`${algorithm}: no test has ${unused.join(', ')}`)
  const file = { algorithm, format: 'fieldseal/1', numberOfTests: tcId, header, notes, testGroups: groups }
  return `${JSON.stringify(file, null, 1)}\n`
}

/** The groups of a stored file, as they were written. */
export function readVectors<G extends object>(name: string): readonly G[] {
  return (JSON.parse(readFileSync(path.join(VECTORS, name), 'utf8')) as { testGroups: G[] }).testGroups
}

export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex')
}

export function unhex(text: string): Buffer {
  return Buffer.from(text, 'hex')
}
