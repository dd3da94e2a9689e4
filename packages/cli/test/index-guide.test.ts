import { mkdtempSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { PassThrough } from 'node:stream'
import { hasPostgres, useDatabase } from '@fieldseal/servers/vitest'
import type { Repository } from 'typeorm'
import { describe, expect, it, vi } from 'vitest'
import { createKeyFile } from '../../kms-local/src/manage-key-file.ts'
import { run } from '../src/run.ts'
import { type Patient, start } from './support/index.config.ts'

const GUIDE = path.join(import.meta.dirname, '../../../docs/guides/change-a-blind-index.md')
const TENANT = 'clinic-7'

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

describe.runIf(hasPostgres())('change-a-blind-index.md', () => {
  const database = useDatabase()
  const folder = mkdtempSync(path.join(tmpdir(), 'fieldseal-guide-'))

  async function fieldseal(line: string, ...more: readonly string[]) {
    const out: string[] = []
    const stream = () => {
      const target = new PassThrough()
      target.on('data', (chunk: Buffer) => out.push(chunk.toString()))
      return target as unknown as NodeJS.WriteStream // no terminal
    }
    const config = path.join(import.meta.dirname, 'support/index.config.ts')
    const argv = [...line.split(/\s+/).slice(1), ...more, '--config', config]
    const signal = new AbortController().signal
    const code = await run({ argv, cwd: folder, stdout: stream(), stderr: stream(), signal })
    return { line, code, text: out.join('') }
  }

  async function inApplication<R>(work: (patients: Repository<Patient>) => Promise<R>): Promise<R> {
    const { dataSource, fieldseal: own, PatientSchema } = start()
    await dataSource.initialize()
    try {
      return await own.runAs({ tenant: TENANT }, () => work(dataSource.getRepository(PatientSchema)))
    } finally {
      await own.close()
      await dataSource.destroy()
    }
  }
  const find = (email: string) => inApplication((patients) => patients.countBy({ clinicId: TENANT, email }))

  it('holds commands that work in their order', async () => {
    createKeyFile(path.join(folder, 'keys'), ['one'])
    vi.stubEnv('DATABASE_URL', database.url)
    vi.stubEnv('KEY_FILE', path.join(folder, 'keys'))
    vi.stubEnv('INDEX', 'before')
    const emails = ['Ada@X.org', 'Bob@X.org']
    await inApplication((patients) => patients.save(emails.map((email) => ({ clinicId: TENANT, email }))))
    vi.stubEnv('INDEX', 'moving')
    expect(await find('ada@x.org')).toBe(0)
    let commands = 0
    let more: string[] = []
    for (const { command, note } of steps()) {
      if (note === 'after') vi.stubEnv('INDEX', 'after')
      if (note === 'waits') more = ['--longest-transaction', '0']
      if (command === undefined) continue
      commands++
      expect(await fieldseal(command, ...more)).toMatchObject({ line: command, code: 0 })
      more = []
    }
    expect(commands).toBe(6)
    expect(await find('ADA@x.org')).toBe(1)
    expect((await fieldseal('fieldseal status', '--json')).text).toContain('"epochs":{"3":2}')
  }, 60_000)

  it('tells what exit 3 is about: rows that the new normaliser makes equal', async () => {
    vi.stubEnv('INDEX', 'before')
    await inApplication((patients) => patients.query('DELETE FROM patients'))
    await inApplication((patients) => patients.query('DELETE FROM fieldseal_keys'))
    await inApplication((patients) =>
      patients.save(['Eve@X.org', 'eve@x.org'].map((email) => ({ clinicId: TENANT, email }))),
    )
    vi.stubEnv('INDEX', 'moving')
    const refused = await fieldseal('fieldseal reindex --model patients --field email')
    expect(refused).toMatchObject({ code: 3 })
    expect(refused.text.match(/ERR_INDEX_COLLISION/g)).toHaveLength(2)
    expect(refused.text).not.toMatch(/eve@x.org/i)
  }, 60_000)
})
