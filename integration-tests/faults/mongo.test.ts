import path from 'node:path'
import { createMigrator, type Report } from '@fieldseal/migrate'
import { hasMongo, useMongoDatabase } from '@fieldseal/servers/vitest'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createDesk } from '../../packages/cli/test/support/command.ts'
import { createKeyFile } from '../../packages/kms-local/src/manage-key-file.ts'
import { startDocuments } from './support/documents.ts'
import { faultyWire, type FaultyWire } from './support/faulty-wire.ts'
import { refused } from './support/told.ts'

const TENANT = 'clinic-7'
const ROWS = 30
const REWRAP = ['rewrap', '--tenant', TENANT, '--batch', '5', '--concurrency', '2']

describe.runIf(hasMongo())('a verb over documents', { timeout: 60_000 }, () => {
  const database = useMongoDatabase()
  const desk = createDesk()
  const start = (...args: readonly string[]) =>
    desk.start(...args, '--config', path.join(import.meta.dirname, 'support/documents.config.ts'))
  let wire: FaultyWire
  let app: ReturnType<typeof startDocuments>
  beforeAll(async () => {
    const keyFile = desk.env['KEY_FILE'] ?? ''
    createKeyFile(keyFile, ['one'])
    wire = await faultyWire(database.uri)
    desk.env['DEPLOYED'] = JSON.stringify({ url: wire.url, keyFile })
    app = startDocuments({ url: database.uri, keyFile })
    const patients = Array.from({ length: ROWS }, (_, i) => ({
      clinic: TENANT,
      email: `p${i}@x.org`,
      history: [{ note: `first of ${i}` }, { note: `second of ${i}` }],
    }))
    await app.fieldseal.runAs({ tenant: TENANT }, () => app.Patients.insertMany(patients))
  })
  afterAll(async () => {
    await app?.stop()
    await wire?.close()
  })

  const rotate = () => createMigrator(app.config).rotateKek({ tenant: TENANT })

  async function converged(): Promise<void> {
    const { code, stdout, stderr } = await start(...REWRAP, '--json').ended
    expect(code, stdout + stderr).toBe(0)
    const report = JSON.parse(stdout) as Report
    expect(report).toMatchObject({ resumed: true, remaining: 0, models: [{ rows: ROWS, failed: 0 }] })
    const found = await app.fieldseal.runAs({ tenant: TENANT }, () => app.Patients.find({ clinic: TENANT }).lean())
    expect(found).toHaveLength(ROWS)
    for (const { email, history } of found)
      expect(history.map(({ note }) => note)).toEqual([
        `first of ${email.slice(1, -6)}`,
        `second of ${email.slice(1, -6)}`,
      ])
    const verified = await createMigrator(app.config).verify({ restart: true })
    expect(verified).toMatchObject({ remaining: 0, models: [{ unchanged: ROWS, counts: { outdated: 0 } }] })
  }

  it('goes on after kill -9, before and after a write', async () => {
    await rotate()
    for (const [n, when] of [
      [3, 'before'],
      [4, 'after'],
    ] as const) {
      const { child, ended } = start(...REWRAP)
      wire.strike(n, when, () => child.kill('SIGKILL') && ended)
      expect((await ended).code).toBeNull()
    }
    await converged()
  })

  it('goes on by itself when a connection is cut once, or ends with what to do where the server knows no retries', async () => {
    await rotate()
    wire.strike(7, 'before', () => wire.cut())
    const { code, stdout, stderr } = await start(...REWRAP, '--json').ended
    if (code === 0)
      return expect(JSON.parse(stdout)).toMatchObject({ remaining: 0, models: [{ rows: ROWS, failed: 0 }] })
    expect(code, stdout + stderr).toBe(5)
    expect(JSON.parse(stdout)).toMatchObject({ error: { code: 'ERR_DATABASE_UNAVAILABLE' } })
    await converged()
  })

  it('ends with what to do when the server is gone, exit 5, and goes on when it is back', async () => {
    await rotate()
    wire.strike(7, 'after', () => {
      wire.down = true
      wire.cut()
    })
    const error = await refused({ start }, 5, REWRAP)
    expect(error.code).toMatch(/^ERR_(DATABASE|KEY_STORE)_UNAVAILABLE$/)
    expect(error.details['hint']).toMatch(/same command again/)
    // It is not there from the beginning either.
    expect((await refused({ start }, 5, REWRAP)).code).toMatch(/^ERR_(DATABASE|KEY_STORE)_UNAVAILABLE$/)
    wire.down = false
    await converged()
  })
})
