import { mkdtempSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { PassThrough } from 'node:stream'
import { hasPostgres, useDatabase } from '@fieldseal/servers/vitest'
import { CreateFieldsealTables1764000000000, encryptColumnMigration } from '@fieldseal/typeorm'
import { DataSource } from 'typeorm'
import { describe, expect, it, vi } from 'vitest'
import { createKeyFile } from '../../kms-local/src/manage-key-file.ts'
import { run } from '../src/run.ts'
import { BeforeSchema, start } from './support/encrypt.config.ts'

const GUIDE = path.join(import.meta.dirname, '../../../docs/guides/encrypt-an-existing-column.md')
const BORN = new Date('1815-12-10T00:00:00.000Z')

interface Step {
  readonly command?: string
  readonly note?: string
}

/** What the guide has its reader do, in its order. */
function steps(): readonly Step[] {
  const text = readFileSync(GUIDE, 'utf8')
  return [...text.matchAll(/```sh\n([\s\S]*?)```|<!-- test: (.*?) -->/g)].flatMap(([, block, note]): Step[] => {
    if (note !== undefined) return [{ note }]
    const lines = (block ?? '').split('\n').map((line) => line.trim())
    return lines.filter((line) => line.startsWith('fieldseal ')).map((command) => ({ command }))
  })
}

describe.runIf(hasPostgres())('encrypt-an-existing-column.md', () => {
  const database = useDatabase()
  const folder = mkdtempSync(path.join(tmpdir(), 'fieldseal-guide-'))

  async function fieldseal(line: string) {
    const out: string[] = []
    const stream = () => {
      const target = new PassThrough()
      target.on('data', (chunk: Buffer) => out.push(chunk.toString()))
      return target as unknown as NodeJS.WriteStream // no terminal
    }
    const config = path.join(import.meta.dirname, 'support/encrypt.config.ts')
    const argv = [...line.split(/\s+/).slice(1), '--config', config]
    const code = await run({
      argv,
      cwd: folder,
      stdout: stream(),
      stderr: stream(),
      signal: new AbortController().signal,
    })
    return { line, code, text: out.join('') }
  }

  async function inBuild<R>(work: (build: ReturnType<typeof start>) => Promise<R>): Promise<R> {
    const build = start()
    await build.dataSource.initialize()
    try {
      return await work(build)
    } finally {
      await build.fieldseal.close()
      await build.dataSource.destroy()
    }
  }

  const migrate = (way: 'up' | 'down') =>
    inBuild(async ({ dataSource }) => {
      const runner = dataSource.createQueryRunner()
      if (way === 'up') await new CreateFieldsealTables1764000000000().up(runner)
      for (const field of ['phone', 'born'])
        await encryptColumnMigration({ model: 'patients', field, was: 'varchar(40)' })[way](runner)
      await runner.release()
    })

  /** What `migration:generate` would write. */
  const generated = () =>
    inBuild(async ({ dataSource }) => {
      const { upQueries } = await dataSource.driver.createSchemaBuilder().log()
      return upQueries.map(({ query }) => query)
    })

  it('holds commands that work in their order, and loses no value', async () => {
    vi.stubEnv('DATABASE_URL', database.url)
    vi.stubEnv('KEY_FILE', path.join(folder, 'fieldseal.key'))
    createKeyFile(path.join(folder, 'fieldseal.key'), ['one'])
    const before = await new DataSource({
      type: 'postgres',
      url: database.url,
      entities: [BeforeSchema],
      synchronize: true,
    }).initialize()
    const rows = Array.from({ length: 30 }, (_, i) => ({
      clinicId: 'clinic-7',
      phone: i === 3 ? null : `0-${i}`,
      born: i === 4 ? null : BORN,
    }))
    await before.getRepository(BeforeSchema).insert(rows)
    const stored = () => before.query('SELECT id, phone, born FROM patients ORDER BY id')
    const first: unknown = await stored()

    const commands: string[] = []
    for (const { command, note = '' } of steps()) {
      if (command !== undefined) {
        commands.push(command)
        expect(await fieldseal(command)).toMatchObject({ line: command, code: 0 })
        continue
      }
      const state = /STATE=(\w+)/.exec(note)?.[1]
      if (state !== undefined) vi.stubEnv('STATE', state)
      const way = /migration=(up|down)/.exec(note)?.[1]
      if (way === 'up' || way === 'down') await migrate(way)
      if (way === 'down') continue
      const drops = (await generated()).filter((sql) => /DROP COLUMN/.test(sql))
      expect(drops).toEqual(state === 'encrypted' ? ['ALTER TABLE "patients" DROP COLUMN "born"'] : [])
      const found = await inBuild(({ dataSource, fieldseal: own, schema }) =>
        own.runAs({ tenant: 'clinic-7' }, () => dataSource.getRepository(schema).findBy({ clinicId: 'clinic-7' })),
      )
      const told = (list: readonly { phone: string | null; born: Date | null }[]) =>
        list.map(({ phone, born }) => `${phone} ${born?.toISOString()}`).toSorted()
      expect(told(found)).toEqual(told(rows))
    }
    expect(commands.length).toBeGreaterThan(8)
    expect(await stored()).toEqual(first)
    await before.synchronize() // the table is the old one again
    await before.destroy()
  }, 60_000)

  it('is refused by exit code 3 while plaintext remains, and by 2 for what says nothing', async () => {
    vi.stubEnv('STATE', 'plaintext')
    await migrate('up').catch(() => undefined) // the tables of keys are there
    vi.stubEnv('STATE', 'encrypted')
    const dropped = await generated().catch((error: unknown) => error)
    expect(dropped).toMatchObject({ code: 'ERR_CONFIG_INVALID' })
    expect(await fieldseal('fieldseal backfill --field patients.phone')).toMatchObject({ code: 3 })
    expect(await fieldseal('fieldseal backfill')).toMatchObject({ code: 2 })
    expect(await fieldseal('fieldseal decrypt')).toMatchObject({ code: 2 })
    expect(await fieldseal('fieldseal decrypt --field patients.phone')).toMatchObject({ code: 2 })
  }, 60_000)
})
