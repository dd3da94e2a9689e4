import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { createMigrator, type Migrator, type Plan } from '@fieldseal/migrate'
import { createDatabase } from '@fieldseal/servers'
import { expect, inject, type TestContext } from 'vitest'
import { createDesk, type Desk, type Ended } from '../../../packages/cli/test/support/command.ts'
import { createKeyFile } from '../../../packages/kms-local/src/manage-key-file.ts'
import { type Clinic, type Deployed, type Patient, startClinic } from './clinic.ts'
import { faultyWire, type FaultyWire } from './faulty-wire.ts'

const CONFIG = path.join(import.meta.dirname, 'clinic.config.ts')
export const TENANT = 'clinic-7'
export const ROWS = 30

export type Blow = readonly [n: number, when: 'before' | 'after']

/** A database with rows, the command line on it through a wire that fails, and an application alongside. */
export interface Ward {
  readonly wire: FaultyWire
  readonly desk: Desk
  /** Of the database, past no wire and no pooler. */
  readonly url: string
  /** Writes; what it reads it also rewraps. */
  readonly app: Clinic
  /** Reads everything, again and again. */
  readonly reader: Clinic
  readonly migrator: Migrator
  start(...args: readonly string[]): ReturnType<Desk['start']>
  run(...args: readonly string[]): Promise<Ended>
  /** Runs a line of `sh`, in which `$FIELDSEAL` is the command and `$CONFIG` its configuration. */
  shell(line: string): ReturnType<Desk['shell']>
  /** Runs a command that must succeed. @returns what it printed as JSON */
  json<R>(...args: readonly string[]): Promise<R>
  /**
   * Kills the same command at each of these writes, then lets it run to its end, while the application reads every value
   * and writes. @returns what the last run printed
   */
  killed<R>(blows: readonly Blow[], ...args: readonly string[]): Promise<R>
  /** Patients whose notes the application reads. @defaultValue all */
  notes: readonly string[]
  /** Deploys another build, to the application and to the command line. */
  deploy(change: Partial<Deployed>): Promise<void>
  /** Writes a plan. @returns its file */
  plan(verb: Plan['verb'], options: object): Promise<string>
  query(sql: string, parameters?: readonly unknown[]): Promise<Record<string, unknown>[]>
  as<R>(fn: () => R): R
}

interface WardOptions extends Partial<Deployed> {
  readonly rows?: number
  /** Values stand in plaintext, as a build without Fieldseal has left them. */
  readonly plaintext?: boolean
  /** @defaultValue the server of the run */
  readonly server?: string
  /** A PgBouncer in front of the server: of the application that writes, and of the command line. @defaultValue none */
  readonly pooler?: string
}

export async function openWard(
  { onTestFinished }: Pick<TestContext, 'onTestFinished'>,
  { rows = ROWS, plaintext = false, server, pooler, ...build }: WardOptions = {},
): Promise<Ward> {
  const database = await createDatabase(server ?? inject('postgres')?.url ?? '')
  const url = pooler === undefined ? database.url : past(pooler, database.url)
  const wire = await faultyWire(url)
  const desk = createDesk()
  desk.env['CONFIG'] = CONFIG
  const keyFile = desk.env['KEY_FILE'] ?? ''
  createKeyFile(keyFile, ['one', 'two'])
  let deployed: Deployed = { url, keyFile }
  let app: Clinic | undefined
  let reader: Clinic | undefined
  const ward: Ward = {
    wire,
    desk,
    url: database.url,
    get app() {
      return app ?? expect.unreachable()
    },
    get reader() {
      return reader ?? expect.unreachable()
    },
    get migrator() {
      return createMigrator(ward.app.config)
    },
    notes: ['0', '1'],
    start: (...args) => desk.start(...args, '--config', CONFIG),
    run: (...args) => ward.start(...args).ended,
    shell: (line) => desk.shell(line),
    async json<R>(...args: readonly string[]) {
      const { code, stdout, stderr } = await ward.run(...args, '--json')
      if (code !== 0) throw new Error(`${args.join(' ')}: exit ${code}: ${stdout} ${stderr}`)
      return JSON.parse(stdout) as R
    },
    killed: <R>(blows: readonly Blow[], ...args: readonly string[]) =>
      alongside(ward, async () => {
        for (const [n, when] of blows) {
          const { child, ended } = ward.start(...args)
          wire.strike(n, when, () => child.kill('SIGKILL') && ended)
          const { code, stderr } = await ended
          expect(code, `not killed ${when} write ${n} of ${wire.writes}: ${stderr}`).toBeNull()
        }
        return ward.json<R>(...args)
      }),
    async deploy(change) {
      deployed = { ...deployed, ...change }
      desk.env['DEPLOYED'] = JSON.stringify({ ...deployed, url: wire.url })
      await stop()
      app = await startClinic({ ...deployed, synchronize: true })
      await app.dataSource.initialize()
      reader = await startClinic({ ...deployed, url: database.url, readOnly: true })
      await reader.dataSource.initialize()
    },
    async plan(verb, options) {
      const plan = await ward.migrator.plan(verb as 'shred', options) // each verb with its own options
      const file = path.join(desk.folder, `${verb}.json`)
      writeFileSync(file, JSON.stringify(plan))
      return file
    },
    query: (sql, parameters = []) => ward.app.dataSource.query(sql, [...parameters]),
    as: (fn) => ward.app.fieldseal.runAs({ tenant: TENANT }, fn),
  }
  const stop = () => Promise.all([app?.stop(), reader?.stop()])
  onTestFinished(async () => {
    await stop()
    await wire.close()
    await database.drop()
  })
  await ward.deploy(build)
  await (plaintext ? fillPlaintext(ward, rows) : fill(ward, rows))
  return ward
}

/** The way to a database that leads past a pooler. */
function past(pooler: string, database: string): string {
  const url = new URL(database)
  url.host = new URL(pooler).host
  return url.href
}

const numbers = (count: number) => Array.from({ length: count }, (_, i) => i)

async function fill({ app, as }: Ward, rows: number): Promise<void> {
  const patients = numbers(rows).map((i) => ({ clinicId: TENANT, email: `p${i}@x.org`, ssn: `ssn-${i}` }))
  const notes = numbers(6).map((id) => ({ id, clinicId: TENANT, patient: String(id % 2), text: `note ${id}` }))
  await as(() => app.patients().save(patients))
  await as(() => app.notes().save(notes))
}

async function fillPlaintext({ app, query }: Ward, rows: number): Promise<void> {
  await app.fieldseal.prepare(TENANT)
  await query(
    `INSERT INTO patients (id, "clinicId", email, ssn)
     SELECT gen_random_uuid(), $1, 'p' || i || '@x.org', 'ssn-' || i FROM generate_series(0, $2 - 1) i`,
    [TENANT, rows],
  )
}

/** Every value reads as it was written, but for a space that a write adds and the next takes away, and every row is found by its e-mail address. */
export async function readable({ reader, notes }: Ward): Promise<readonly Patient[]> {
  const as = <R>(fn: () => R) => reader.fieldseal.runAs({ tenant: TENANT }, fn)
  const patients = await as(() => reader.patients().findBy({ clinicId: TENANT }))
  const wrong = patients.filter(
    ({ email, ssn }) => !/^p\d+@x\.org$/.test(email) || ssn.trimEnd() !== `ssn-${email.slice(1, -6)}`,
  )
  expect(wrong).toEqual([])
  for (const email of ['p0@x.org', `p${patients.length - 1}@x.org`])
    expect(await as(() => reader.patients().countBy({ clinicId: TENANT, email }))).toBe(1)
  for (const patient of notes)
    for (const { id, text } of await as(() => reader.notes().findBy({ clinicId: TENANT, patient })))
      expect(text).toBe(`note ${id}`)
  return patients
}

/**
 * While `work` runs, the application reads every value and writes some again.
 * @param tolerates what it may meet, such as a database that restarts
 */
export async function alongside<R>(
  ward: Ward,
  work: () => Promise<R>,
  tolerates: (error: unknown) => boolean = () => false,
): Promise<R> {
  let ended = false
  let rounds = 0
  const application = async () => {
    for (; !ended; await sleep(100)) {
      try {
        const rows = await readable(ward)
        const ssn = `ssn-${rounds++ % 5}`
        const email = `p${ssn.slice(4)}@x.org`
        const row = rows.find((one) => one.email === email) ?? expect.unreachable()
        await ward.as(() => ward.app.patients().save({ ...row, ssn: `${ssn} ` }))
        await ward.as(() => ward.app.patients().save({ ...row, ssn }))
      } catch (error) {
        if (!tolerates(error)) throw error
      }
    }
  }
  const running = application()
  running.catch(() => undefined) // awaited below
  try {
    return await work()
  } finally {
    ended = true
    await running
    expect(rounds).toBeGreaterThan(0)
  }
}
