import type { Report } from '@fieldseal/migrate'
import { type PostgresProcess, startOwnPostgres } from '@fieldseal/servers'
import { hasPostgres } from '@fieldseal/servers/vitest'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Told } from './support/told.ts'
import { alongside, type Blow, openWard, readable, ROWS, TENANT, type Ward } from './support/ward.ts'

const SMALL = ['--batch', '5', '--concurrency', '2']

/** What an application meets while its database is away; its values are never wrong. */
const isAway = (error: unknown) =>
  /57P0|ECONN|terminat|connection|KEY_STORE_UNAVAILABLE/i.test(`${Reflect.get(Object(error), 'code')} ${String(error)}`)

/** Runs a command into a fault: it must end with a typed error that says what to do, and exit 5. */
async function failing({ wire, start }: Ward, [n, when]: Blow, strike: () => unknown, args: readonly string[]) {
  const { ended } = start(...args, '--json')
  let struck: Promise<unknown> | undefined
  wire.strike(n, when, () => (struck = Promise.resolve(strike())))
  const { code, stdout, stderr } = await ended
  expect(struck, 'the fault').toBeDefined()
  await struck // the command may end before the database is back
  // The connection may be replaced before anybody misses it: the callers look whether everything was done.
  if (code === 0) return 'went on'
  expect(code, `${args.join(' ')}: ${stdout} ${stderr}`).toBe(5)
  const { error } = JSON.parse(stdout) as Told
  expect(error).toMatchObject({ kind: 'unavailable', details: { hint: expect.stringMatching(/same command again/) } })
  expect(error.code).toMatch(/^ERR_(DATABASE|KEY_STORE)_UNAVAILABLE$/)
  expect(stderr).not.toMatch(/ at .*\.[jt]s:\d/)
  return 'failed'
}

const FAULTS: readonly (readonly [string, (ward: Ward, server: PostgresProcess) => Promise<unknown>])[] = [
  ['restarts (fast)', (_ward, server) => server.restart('fast')],
  ['crashes and recovers (immediate)', (_ward, server) => server.restart('immediate')],
  [
    'ends the connections of the command (pg_terminate_backend)',
    ({ query }) =>
      query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'verb' AND datname = current_database()",
      ),
  ],
  ['is cut off', async ({ wire }) => wire.cut()],
]

describe('a database that', { timeout: 60_000 }, () => {
  let server: PostgresProcess | undefined
  beforeAll(async () => {
    if (hasPostgres()) server = await startOwnPostgres()
  })
  afterAll(() => server?.stop())

  it.for(FAULTS)(
    '%s in the middle of a verb loses nothing, and the same command goes on',
    async ([, fault], context) => {
      if (server === undefined) return context.skip('no binaries of PostgreSQL here')
      const ward = await openWard(context, { server: server.url })
      const { migrator, json } = ward
      await migrator.rotateKek({ tenant: TENANT })
      const strike = () => fault(ward, server as PostgresProcess) // tested above
      const report = await alongside(
        ward,
        async () => {
          await failing(ward, [4, 'before'], strike, ['rewrap', ...SMALL])
          const resumed = (await failing(ward, [6, 'after'], strike, ['rewrap', ...SMALL])) === 'failed'
          const done = await json<Report>('rewrap', ...SMALL)
          expect(done.resumed).toBe(resumed)
          return done
        },
        isAway,
      )
      expect(report).toMatchObject({ remaining: 0, models: [{ rows: ROWS, failed: 0 }, { rows: 6 }] })
      await failing(ward, [1, 'before'], strike, ['rotate', 'kek', '--tenant', TENANT])
      expect(await json('rotate', 'kek', '--tenant', TENANT)).toMatchObject({ rotated: [{ version: 3 }] })
      await readable(ward)
      expect(await migrator.verify({ restart: true })).toMatchObject({
        remaining: 0,
        models: [{ rows: ROWS }, { rows: 6 }],
      })
    },
  )

  it('crashes in the middle of an apply loses no key, and the same plan goes on', async (context) => {
    if (server === undefined) return context.skip('no binaries of PostgreSQL here')
    const ward = await openWard(context, { server: server.url })
    await ward.deploy({ cmks: ['two'], formerCmks: ['one'] })
    const plan = await ward.plan('move', { tenant: TENANT })
    await failing(ward, [2, 'before'], () => server?.restart('immediate'), ['apply', plan])
    await readable(ward)
    expect(await ward.json('apply', plan)).toMatchObject({ verb: 'move', rowsWritten: 0 })
    await ward.deploy({ formerCmks: [] })
    await readable(ward)
  })
})
