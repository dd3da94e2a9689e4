import { existsSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import path from 'node:path'
import { hasPostgres, useDatabase } from '@fieldseal/servers/vitest'
import { beforeAll, describe, expect, it } from 'vitest'
import { createKeyFile } from '../../kms-local/src/manage-key-file.ts'
import { CONFIG, createDesk, type Ended } from './support/command.ts'

const desk = createDesk()

function write(name: string, text: string): string {
  writeFileSync(path.join(desk.folder, name), text)
  return name
}

/** Ends with one line for people that says what to do, and no stack trace. */
function expectTold({ code, stdout, stderr }: Ended, exit: number, told: RegExp): void {
  expect([code, stdout], stderr).toEqual([exit, ''])
  expect(stderr).toMatch(told)
  expect(stderr).not.toMatch(/^ +at /m)
}

async function closedPort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  return typeof address === 'object' && address !== null ? address.port : 0
}

describe('a configuration that cannot be loaded', { timeout: 180_000 }, () => {
  it.for([
    [
      'typescript.ts',
      'export default {\n  a: 1\n  b: 2\n}',
      /typescript\.ts cannot be loaded: Expected ','.*\(typescript\.ts:3\)/,
    ],
    ['common.cjs', 'module.exports = {\n  a:\n}', /common\.cjs cannot be loaded: Unexpected token.*\(common\.cjs:3\)/],
    ['module.mjs', 'export default {\n  a:\n}', /module\.mjs cannot be loaded: Unexpected token/],
    ['missing.mjs', "import 'nowhere-at-all'", /missing\.mjs cannot be loaded: Cannot find package 'nowhere-at-all'/],
    [
      'unnamed.ts',
      "import { Nothing } from 'node:fs'\nexport default Nothing",
      /does not provide an export named 'Nothing'/,
    ],
    ['thrown.mjs', '\nthrow new Error("boom")', /thrown\.mjs cannot be loaded: boom \(thrown\.mjs:2\); mend it/],
    [
      'rejected.mjs',
      'export default async () => { throw new TypeError("no secret") }',
      /rejected\.mjs cannot be loaded: no secret/,
    ],
    ['nothing.mjs', 'throw undefined', /nothing\.mjs cannot be loaded: undefined/],
    ['named.mjs', 'export const config = {}', /named\.mjs must export default defineConfig/],
    [
      'typo.mjs',
      'export default { fieldseal: {}, sources: [], polcy: {} }',
      /unknown option polcy; known are fieldseal, /,
    ],
    ['close.mjs', 'export default { fieldseal: {}, sources: [], close: true }', /close must be a function/],
    ['sources.mjs', 'export default { fieldseal: {}, sources: [{}] }', /ERR_CONFIG_INVALID sources: .*typeormSource/],
  ] as const)('%s ends the command with exit 2, and says what and where', async ([name, text, told]) => {
    write(name, text)
    expectTold(await desk.run('status', '--config', name), 2, told)
  })

  it('that is a folder, or is not there', async () => {
    for (const name of ['.', 'elsewhere.ts'])
      expectTold(await desk.run('status', '--config', name), 2, /no configuration at .*name a file with --config/)
  })

  it('because what it asks does not answer is told by its own words with the address, exit 5, and not as a database', async () => {
    const port = await closedPort()
    const told = new RegExp(`cannot be loaded: .*ECONNREFUSED 127\\.0\\.0\\.1:${port}.*run the same command again`)
    const fetched = write('fetched.mjs', `export default async () => await fetch('http://127.0.0.1:${port}')`)
    const connected = write(
      'connected.mjs',
      `import { connect } from 'node:net'\nawait new Promise((_, no) => connect(${port}, '127.0.0.1').on('error', no))`,
    )
    for (const name of [fetched, connected]) {
      const ended = await desk.run('status', '--config', name)
      expectTold(ended, 5, told)
      expect(ended.stderr).not.toMatch(/database/)
    }
    const json = await desk.run('status', '--json', '--config', fetched)
    expect(JSON.parse(json.stdout)).toMatchObject({ error: { kind: 'unavailable' } })
  })

  it('because it waits for ever, or ends the process, does not exit 0', async () => {
    for (const text of ['export default new Promise(() => undefined)', 'process.exit(0)'])
      expectTold(
        await desk.run('status', '--config', write('endless.mjs', text)),
        1,
        /ended before the command was done/,
      )
  })
})

it('tells programs of wrong usage as JSON, and people where to look', async () => {
  for (const [args, told] of [
    [['burn'], /unknown command 'burn'/],
    [['rewrap', '--batch', '0'], /expected a positive whole number/],
    [['plan', 'move'], /required option '--out <file>'/],
    [['rotate'], /name a command/],
  ] as const) {
    const { code, stdout } = await desk.run('--json', ...args)
    expect(code).toBe(2)
    const { error } = JSON.parse(stdout) as { error: { kind: string; message: string } }
    expect(error).toMatchObject({ kind: 'misuse', message: expect.stringMatching(told) as string })
  }
  expect((await desk.run('rewrap', '--jso')).stderr).toMatch(/Did you mean --json\?.*\n.*--help/)
}, 180_000)

it('speaks of room only where a disk is full, when its result could not be written', async () => {
  const readable = write('readable.txt', '')
  const wrong = await desk.shell(`$FIELDSEAL --help 1< ${readable}`).ended
  expect(wrong).toMatchObject({ code: 1 })
  expect(wrong.stderr).toMatch(
    /could not be written: EBADF; see what is wrong with it, then run the same command again/,
  )
  if (!existsSync('/dev/full')) return
  const full = await desk.shell('$FIELDSEAL --help > /dev/full').ended
  expect(full.stderr).toMatch(/could not be written: ENOSPC; make room/)
}, 180_000)

describe.runIf(hasPostgres())('on a new database', { timeout: 180_000 }, () => {
  const database = useDatabase()
  const C = ['--config', CONFIG] as const
  beforeAll(() => {
    desk.env['DATABASE_URL'] = database.url
    createKeyFile(desk.env['KEY_FILE'] ?? '', ['one'])
  })
  /** The configuration of these tests, with something else in it. */
  const changed = (name: string, change: string) =>
    write(name, `import config from '${CONFIG}'\nexport default { ...config, ${change} }`)

  it('says what is wrong with open, and by whose words', async () => {
    const port = await closedPort()
    const thrown = changed('thrown.ts', "open: () => { throw new Error('boom') }")
    expectTold(
      await desk.run('status', '--config', thrown),
      2,
      /open\(\) of the configuration failed: boom \(thrown\.ts:2\)/,
    )
    const fetched = changed('fetched.ts', `open: () => fetch('http://127.0.0.1:${port}')`)
    const asked = await desk.run('status', '--config', fetched)
    expectTold(asked, 5, new RegExp(`open\\(\\) of the configuration failed: fetch failed.*127\\.0\\.0\\.1:${port}`))
    const forgotten = changed('forgotten.ts', 'open: undefined, close: undefined')
    expectTold(await desk.run('status', '--config', forgotten), 2, /the sources have none.*dataSource\.initialize/)
    desk.env['DATABASE_URL'] = `postgres://127.0.0.1:${port}/nothing`
    const away = await desk.run('status', ...C)
    expectTold(away, 5, new RegExp(`ERR_DATABASE_UNAVAILABLE.*the connection to 127\\.0\\.0\\.1:${port} failed`))
    desk.env['DATABASE_URL'] = database.url
  })

  it('says what to do about a model, field, tenant, keyspace or file that is not there', async () => {
    for (const [args, told] of [
      [['rewrap', '--model', 'nobody'], /ERR_ARGUMENT_INVALID model.*the sources have patients.*check the spelling/],
      [['rewrap', '--field', 'nothing'], /ERR_ARGUMENT_INVALID field/],
      [['rotate', 'kek'], /ERR_TENANT_MISSING.*--tenant/],
      [['rotate', 'kek', '--due', '--tenant', 'nobody'], /ERR_ARGUMENT_INVALID tenant.*check the spelling/],
      [['rewrap', '--keyspace', 'class:none'], /ERR_ARGUMENT_INVALID keyspace.*check the spelling/],
      [['verify', '--keyspace', 'class:none'], /ERR_ARGUMENT_INVALID keyspace.*check the spelling/],
      [['activate'], /activate: name the tenant with --tenant/],
      [['apply', 'nowhere.json'], /nowhere\.json: there is no such file/],
      [['lock', '--check'], /fieldseal\.lock\.json: there is no such file/],
    ] as const)
      expectTold(await desk.run(...args, ...C), 2, told)
  })

  it('makes plans and reports for their owner alone, a lock as umask says, and leaves the mode of what is there', async () => {
    const modeOf = (name: string) => (statSync(path.join(desk.folder, name)).mode & 0o777).toString(8)
    const files = { 'report.html': 'status --html report.html', 'fieldseal.lock.json': 'lock' }
    const plan = `$FIELDSEAL prepare --tenant a --config ${CONFIG} && $FIELDSEAL plan move --tenant a --out move.json`
    for (const command of [plan, ...Object.values(files).map((args) => `$FIELDSEAL ${args}`)])
      expect(await desk.shell(`umask 002; ${command} --config ${CONFIG}`).ended).toMatchObject({ code: 0 })
    expect(['move.json', ...Object.keys(files)].map(modeOf)).toEqual(['600', '600', '664'])
    await desk.shell('chmod 666 report.html; chmod 640 fieldseal.lock.json').ended
    for (const args of Object.values(files))
      expect(await desk.shell(`umask 027; $FIELDSEAL ${args} --config ${CONFIG}`).ended).toMatchObject({ code: 0 })
    expect(Object.keys(files).map(modeOf)).toEqual(['666', '640'])
  })
})
