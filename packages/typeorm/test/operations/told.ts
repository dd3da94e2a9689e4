import { inspect } from 'node:util'
import { isFieldsealError } from '@fieldseal/core'
import { expect, it } from 'vitest'
import type { Clinic } from '../support/clinic.ts'
import type { Calls } from './calls.ts'
import { CLASSES } from './methods.ts'
import { type Door, Patient, STORED, WRITTEN } from './ward.ts'

/** What is seen of an operation from outside. */
export interface Seen {
  /** Envelopes leave for the database. @defaultValue false */
  readonly seals?: boolean
  /** A condition on a token. @defaultValue false */
  readonly finds?: boolean
  /** What the caller gets holds values in plaintext, or as they are stored. @defaultValue nothing of either */
  readonly gives?: 'plaintext' | 'ciphertext'
}

export interface Told extends Seen {
  readonly operation: string
  readonly through: string
  readonly what: string
  readonly refusal?: string
}

type Named = Pick<Told, 'through' | 'operation'>

/** The methods of TypeORM that a line of the table is about. */
function methodsIn({ through, operation }: Named): readonly string[] {
  const methods = CLASSES.filter(({ of }) => of === through).flatMap(({ told }) => told)
  return operation.split(', ').flatMap((name) => (methods.includes(name) ? [`${through}.${name}`] : []))
}

export type DoorName = 'EntityManager' | 'Repository' | 'BaseEntity'
export const DOORS: readonly DoorName[] = ['EntityManager', 'Repository', 'BaseEntity']
export const NOT_ACTIVE_RECORD: readonly DoorName[] = ['EntityManager', 'Repository']

const ENVELOPE = /fs\.-AE/
const DATA = /^(?:\/\*.*?\*\/ )?(SELECT|INSERT|UPDATE|DELETE|WITH|TRUNCATE)/
/** Texts that may stand nowhere but in this process. */
export const SECRETS = [...Object.values(STORED), ...Object.values(WRITTEN)].map(String)

/** Registers tests, one for each operation, and remembers what they show. */
export function teller(clinic: () => Clinic<'single'>, calls: () => Calls) {
  const all: Told[] = []

  function doorOf(name: DoorName): Door {
    if (name === 'Repository') return clinic().repository(Patient)
    if (name === 'BaseEntity') return Patient as unknown as Door // its static methods are those of a repository
    const manager = clinic().dataSource.manager as unknown as Record<string, (...args: unknown[]) => unknown>
    return new Proxy({} as Door, {
      get:
        (_, method: string) =>
        (...args: unknown[]) =>
          manager[method]?.(Patient, ...args),
    })
  }

  async function watched(named: Named, run: () => unknown) {
    const { wire } = clinic()
    calls().seen.clear()
    const before = { traffic: wire.traffic().length, logged: wire.logged().length }
    wire.take()
    const [given, thrown] = await Promise.resolve()
      .then(run)
      .then(
        (value: unknown) => [value, undefined] as const,
        (error: unknown) => [undefined, error ?? 'nothing was thrown'] as const,
      )
    expect(
      methodsIn(named).filter((method) => !calls().seen.has(method)),
      'was not called',
    ).toEqual([])
    return {
      given,
      thrown,
      traffic: wire.traffic().subarray(before.traffic).toString('latin1'),
      logged: wire.logged().slice(before.logged),
      statements: wire.take(DATA),
    }
  }

  async function shows(named: Named, { seals = false, finds = false, gives }: Seen, run: () => unknown): Promise<void> {
    const { given, thrown, traffic, logged, statements } = await watched(named, run)
    if (thrown !== undefined) throw thrown
    expect(statements, 'statements').not.toEqual([])
    for (const secret of SECRETS) expect(traffic + logged).not.toContain(secret)
    const text = inspect(given, { depth: 9, showHidden: false })
    expect({
      seals: ENVELOPE.test(logged),
      finds: statements.some((sql) => /\b(WHERE|ON) [\s\S]*_bidx/.test(sql)),
      gives: [
        ...(SECRETS.some((secret) => text.includes(secret)) ? ['plaintext'] : []),
        ...(ENVELOPE.test(text) ? ['ciphertext'] : []),
      ],
    }).toEqual({ seals, finds, gives: gives === undefined ? [] : [gives] })
  }

  async function refuses(named: Named, refusal: string, run: () => unknown): Promise<void> {
    const { thrown, statements } = await watched(named, run)
    expect(
      isFieldsealError(thrown) ? [thrown.kind, [thrown.code, thrown.details.reason].filter(Boolean).join(' ')] : thrown,
    ).toEqual(['refused', refusal])
    expect(statements).toEqual([])
    for (const secret of SECRETS) expect(inspect(thrown)).not.toContain(secret)
  }

  return {
    told: all as readonly Told[],

    /** An operation of a class of TypeORM. */
    protects(through: string, operation: string, what: string, seen: Seen, run: () => unknown): void {
      all.push({ through, operation, what, ...seen })
      it(`${through}.${operation}: ${what}`, () => shows({ through, operation }, seen, run))
    },

    /** The same by each of these doors. */
    protectsBy(doors: readonly DoorName[], operation: string, what: string, seen: Seen, run: (door: Door) => unknown) {
      all.push({ through: doors.join(', '), operation, what, ...seen })
      it.each(doors)(`%s.${operation}: ${what}`, (name) =>
        shows({ through: name, operation }, seen, () => run(doorOf(name))),
      )
    },

    /** @param refusal its code and reason, parted by a space */
    refuses(through: string, operation: string, what: string, refusal: string, run: () => unknown): void {
      all.push({ through, operation, what, refusal })
      it(`${through}.${operation}: ${what}: refused`, () => refuses({ through, operation }, refusal, run))
    },

    refusesBy(
      doors: readonly DoorName[],
      operation: string,
      what: string,
      refusal: string,
      run: (door: Door) => unknown,
    ) {
      all.push({ through: doors.join(', '), operation, what, refusal })
      it.each(doors)(`%s.${operation}: ${what}: refused`, (name) =>
        refuses({ through: name, operation }, refusal, () => run(doorOf(name))),
      )
    },
  }
}

/** What an error shows to whoever logs it. */
export function told(error: unknown): object {
  const known = Object.fromEntries(Object.entries(error ?? {}).filter(([name]) => name !== 'entityClass'))
  return error instanceof Error ? { ...known, text: String(error), stack: error.stack } : known
}

export type Teller = ReturnType<typeof teller>

const GROUPS: readonly (readonly [string, (one: Told) => boolean])[] = [
  [
    'Repositories, managers and active records',
    ({ through }) => DOORS.some((door) => through.split(', ').includes(door)),
  ],
  ['Conditions of find, in each of them', ({ through }) => through === 'find options'],
  ['Trees', ({ through }) => through === 'TreeRepository'],
  ['Query builders', ({ through }) => through.endsWith('QueryBuilder')],
  ['Data source and query runner', () => true],
]

/** The page of the docs. */
export function pageOf(told: readonly Told[]): string {
  const left = new Set(told)
  const sections = GROUPS.map(([title, isIn]) => {
    const rows = told.filter((one) => left.has(one) && isIn(one))
    for (const row of rows) left.delete(row)
    const lines = rows
      .toSorted((a, b) => (orderOf(a) < orderOf(b) ? -1 : 1))
      .map((one) => `| ${[`\`${one.operation}\``, one.through, one.what, ...outcome(one)].map(escaped).join(' | ')} |`)
    return `## ${title}\n\n| operation | of | what | writes | finds by | gives |\n|---|---|---|---|---|---|\n${lines.join('\n')}\n`
  })
  return `# What happens to each TypeORM operation

Written by the tests of \`@fieldseal/typeorm\` (\`test/operations.test.ts\`), which watch each operation on PostgreSQL and PGlite: that its methods
are called, what leaves for the database, what the condition is about, and what the caller gets. None of them sends a value in plaintext. What is refused is
refused before a statement is sent. A public method of TypeORM that stands neither here nor among those that carry no
values does not compile in the tests.

${sections.join('\n')}`
}

function outcome({ refusal, seals, finds, gives }: Told): readonly string[] {
  if (refusal !== undefined) return [`refused: \`${refusal}\``, '', '']
  return [seals === true ? 'ciphertext' : '–', finds === true ? 'token' : '–', gives ?? '–']
}

const orderOf = ({ operation, what, through }: Told) => `${operation.toLowerCase()} ${what} ${through}`
const escaped = (text: string) => text.replaceAll('|', String.raw`\|`)
