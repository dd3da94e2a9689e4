import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'

/** One test of a Wycheproof file, with what its group says of all its tests. */
export interface WycheproofTest {
  readonly tcId: number
  readonly comment: string
  readonly result: 'valid' | 'invalid' | 'acceptable'
  readonly [name: string]: unknown
}

/** Not committed to the repository: beside it, or where WYCHEPROOF_DIR says. */
const FOLDER =
  process.env['WYCHEPROOF_DIR'] ??
  path.join(import.meta.dirname, '..', '..', '..', '..', '..', 'shared', 'vectors', 'wycheproof')

/** The tests of a file, or undefined, with a printed word about it, where the vectors are absent. */
export function wycheproof(file: string): readonly WycheproofTest[] | undefined {
  const name = path.join(FOLDER, file)
  if (!existsSync(name)) {
    process.stdout.write(`not run: no ${file} in ${FOLDER}; set WYCHEPROOF_DIR\n`)
    return undefined
  }
  const { testGroups } = JSON.parse(readFileSync(name, 'utf8')) as {
    readonly testGroups: readonly (Record<string, unknown> & { readonly tests: readonly WycheproofTest[] })[]
  }
  return testGroups.flatMap(({ tests, ...group }) => tests.map((test) => ({ ...group, ...test })))
}

/** The bytes of a member in hex. */
export function bytesOf(test: WycheproofTest, member: string): Buffer {
  return Buffer.from(String(test[member]), 'hex')
}
