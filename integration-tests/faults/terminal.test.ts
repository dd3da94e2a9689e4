import { readFileSync } from 'node:fs'
import path from 'node:path'
import type { Report } from '@fieldseal/migrate'
import { hasPostgres } from '@fieldseal/servers/vitest'
import { describe, expect, it, type TestContext } from 'vitest'
import { onTerminal } from './support/terminal.ts'
import { alongside, openWard, ROWS, TENANT, type Ward } from './support/ward.ts'

const SMALL = ['--batch', '5', '--concurrency', '2']
const DONE = {
  remaining: 0,
  models: [
    { rows: ROWS, failed: 0 },
    { rows: 6, failed: 0 },
  ],
}
// What a terminal is told.
const [RED, HIDE_CURSOR, SHOW_CURSOR] = ['\u001B[31m', '\u001B[?25l', '\u001B[?25h']

const terminal = onTerminal()

async function rotated(context: TestContext): Promise<Ward> {
  const ward = await openWard(context)
  await ward.migrator.rotateKek({ tenant: TENANT })
  return ward
}

describe.runIf(hasPostgres())('a command that is stopped', { timeout: 60_000 }, () => {
  it('by SIGINT, SIGTERM or SIGHUP ends after what is under way, exits 130, says so, and goes on', async (context) => {
    const ward = await rotated(context)
    const report = await alongside(ward, async () => {
      for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
        const { child, ended } = ward.start('rewrap', ...SMALL)
        ward.wire.strike(3, 'after', () => child.kill(signal))
        const { code, stdout, stderr } = await ended
        expect([code, stdout]).toEqual([130, ''])
        expect(stderr).toMatch(/interrupted: the checkpoint is kept, the same command goes on from there\n$/)
      }
      return ward.json<Report>('rewrap', ...SMALL)
    })
    expect(report).toMatchObject({ resumed: true, ...DONE })
  })

  it('while it waits stops waiting', async (context) => {
    const ward = await openWard(context)
    const args = ['reindex', '--model', 'patients', '--tenant', TENANT, '--new-key', '--longest-transaction', '600']
    const { child, ended } = ward.start(...args)
    child.stderr?.on('data', (text: Buffer) => /waiting/.test(text.toString()) && child.kill('SIGTERM'))
    expect(await ended).toMatchObject({ code: 130, stderr: expect.stringMatching(/checkpoint is kept/) })
  })

  it('by a signal twice ends at once, even while the database hangs', async (context) => {
    const ward = await rotated(context)
    const { child, ended } = ward.start('rewrap', ...SMALL)
    const struck = new Promise<void>((resolve) => {
      ward.wire.strike(3, 'before', () => {
        child.kill('SIGINT')
        setTimeout(() => child.kill('SIGINT'), 200)
        resolve()
        return ended // no answer until then
      })
    })
    await struck
    expect(await ended).toMatchObject({ code: 130 })
    expect(await ward.json<Report>('rewrap', ...SMALL)).toMatchObject(DONE)
  })
})

describe.runIf(hasPostgres())('a command whose output nobody reads', { timeout: 60_000 }, () => {
  it('goes on to the end, without a stack trace: | head -1', async (context) => {
    const ward = await rotated(context)
    const line = `($FIELDSEAL rewrap ${SMALL.join(' ')} --json --config $CONFIG; echo $? > code) 2>&1 | head -1`
    const { stdout, stderr } = await ward.shell(line).ended
    expect(JSON.parse(stdout)).toMatchObject({ progress: { verb: 'rewrap' } })
    expect(stderr).toBe('')
    expect(readFileSync(path.join(ward.desk.folder, 'code'), 'utf8')).toBe('0\n')
    const { rewrap } = await ward.migrator.status({ tenant: TENANT })
    expect(rewrap).toMatchObject({ older: 0, exact: true })
  })

  it('goes on where it stopped when both streams were closed and it was killed', async (context) => {
    const ward = await rotated(context)
    const { child, ended } = ward.start('rewrap', ...SMALL)
    child.stderr?.once('data', () => {
      child.stdout?.destroy()
      child.stderr?.destroy()
    })
    ward.wire.strike(8, 'after', () => child.kill('SIGKILL'))
    expect((await ended).code).toBeNull()
    expect(await ward.json<Report>('rewrap', ...SMALL)).toMatchObject({ resumed: true, ...DONE })
  })

  it('prints progress as lines of JSON, without a bar and without colours', async (context) => {
    const ward = await rotated(context)
    const { code, stdout, stderr } = await ward.run('rewrap', ...SMALL)
    expect(code).toBe(0)
    expect(stdout + stderr).not.toContain('\u001B')
    const lines = stderr.trim().split('\n')
    for (const line of lines)
      expect(JSON.parse(line)).toMatchObject({ progress: { rowsPerSecond: expect.any(Number) } })
    expect((await ward.run('rewrap', '--tenant', 'nobody')).stderr).not.toContain('\u001B')
  })
})

describe.runIf(hasPostgres() && terminal !== undefined)('on a terminal', { timeout: 60_000 }, () => {
  const show = (ward: Ward, args: string) => ward.shell(terminal?.(`$FIELDSEAL ${args} --config $CONFIG`) ?? '')

  it('a bar shows rate and time left, and is ended with a line of its own', async (context) => {
    const ward = await rotated(context)
    const { code, stdout } = await show(ward, `rewrap ${SMALL.join(' ')}`).ended
    expect(code).toBe(0)
    expect(stdout).toMatch(/patients: about 30 of 30 rows/)
    expect(stdout).toMatch(/rewrap patients \[.+\] 100 % 30\/30 rows, \d+\/s, 0\.0 s left/)
    expect(stdout.lastIndexOf(SHOW_CURSOR)).toBeGreaterThan(stdout.lastIndexOf(HIDE_CURSOR))
    expect(stdout).not.toContain('{"progress"')
    // The report begins on a line of its own, after the bar.
    expect(stdout).toMatch(/s left[^\n]*\r?\n[^\n]*rewrap\r?\n[^\n]*model +rows/)
  })

  it('errors are red, and are not where NO_COLOR is set', async (context) => {
    const ward = await openWard(context, { rows: 1 })
    const coloured = await show(ward, 'rewrap --tenant nobody').ended
    expect(coloured).toMatchObject({ code: 2 })
    expect(coloured.stdout).toContain(`${RED}fieldseal`)
    const { code, stdout } = await ward.shell(
      `export NO_COLOR=1; ${terminal?.('$FIELDSEAL rewrap --tenant nobody --config $CONFIG')}`,
    ).ended
    expect(code).toBe(2)
    expect(stdout).toContain('fieldseal: ERR_ARGUMENT_INVALID')
    expect(stdout).not.toContain('\u001B[')
  })

  it('Ctrl-C ends the bar, shows the cursor again, and keeps the checkpoint', async (context) => {
    const ward = await rotated(context)
    const { child, ended } = show(ward, `rewrap ${SMALL.join(' ')}`)
    ward.wire.strike(4, 'after', () => child.stdin?.write('\u0003'))
    const { code, stdout } = await ended
    expect(code).toBe(130)
    expect(stdout).toMatch(/rewrap patients \[/)
    expect(stdout.lastIndexOf(SHOW_CURSOR)).toBeGreaterThan(stdout.lastIndexOf(HIDE_CURSOR))
    expect(stdout).toMatch(/\n[^\n]*interrupted[^\n]*: the checkpoint is kept/)
    expect(await ward.json<Report>('rewrap', ...SMALL)).toMatchObject({ resumed: true, ...DONE })
  })

  it('that is closed stops the command, which goes on from its checkpoint', async (context) => {
    const ward = await rotated(context)
    const { child } = show(ward, `rewrap ${SMALL.join(' ')} --rate 20`)
    // The terminal is killed, not the command.
    await new Promise((resolve) => ward.wire.strike(4, 'after', () => resolve(child.kill('SIGKILL'))))
    await expect.poll(() => ward.wire.connections, { timeout: 15_000 }).toBe(0)
    expect(await ward.json<Report>('rewrap', ...SMALL)).toMatchObject({ resumed: true, ...DONE })
  })

  it('a shred wants its name typed, and does nothing when it is another', async (context) => {
    const ward = await openWard(context)
    const keyspace = 'subject:patient:1'
    const plan = await ward.plan('shred', { tenant: TENANT, keyspace, destroyAfterDays: 0 })
    const typed = async (name: string) => {
      const { child, ended } = show(ward, `apply ${plan}`)
      child.stdout?.on('data', (text: Buffer) => /to go on: /.test(text.toString()) && child.stdin?.write(`${name}\n`))
      return ended
    }
    expect(await typed('subject:patient:2')).toMatchObject({ code: 4 })
    const { code, stdout } = await typed(keyspace)
    expect(code).toBe(0)
    expect(stdout).toMatch(/destroyed/)
  })
})

it.runIf(terminal === undefined)(
  'on a terminal: not tried, for this machine has neither script nor python3',
  (context) => context.skip(),
)
