import { existsSync, mkdtempSync, readdirSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { PassThrough } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { hasPostgres, useDatabase } from '@fieldseal/servers/vitest'
import type { Plan, Status } from '@fieldseal/migrate'
import { beforeAll, describe, expect, it, vi } from 'vitest'
import { createKeyFile } from '../../kms-local/src/manage-key-file.ts'
import { EXIT } from '../src/exit-codes.ts'
import { run } from '../src/run.ts'
import { seed } from './support/guides.config.ts'

const DOCS = path.join(import.meta.dirname, '../../../docs')
const GUIDES = readdirSync(path.join(DOCS, 'guides')).filter((file) =>
  /^(rotate-a-key|move-to-another-cloud|off-board-a-tenant|respond-to-a-leaked-key|erase-a-persons-data)\.md$/.test(
    file,
  ),
)
const TENANT = 'clinic-7'

/** What a guide has its reader do: run a command, or change the configuration. */
type Step = { readonly command: string } | { readonly environment: string }

function stepsOf(guide: string): readonly Step[] {
  const text = readFileSync(path.join(DOCS, 'guides', guide), 'utf8')
  return [...text.matchAll(/```sh\n([\s\S]*?)```|<!-- test: (.*?) -->/g)].flatMap(([, block, environment]): Step[] => {
    if (environment !== undefined) return [{ environment }]
    const lines = (block ?? '').split('\n').map((line) => line.trim())
    return lines.filter((line) => line.startsWith('fieldseal ')).map((command) => ({ command }))
  })
}

describe.runIf(hasPostgres()).each(GUIDES)('%s', (guide) => {
  const database = useDatabase()
  const folder = mkdtempSync(path.join(tmpdir(), 'fieldseal-guide-'))
  let patient = ''

  async function fieldseal(...args: readonly string[]) {
    const out: string[] = []
    const stream = () => {
      const target = new PassThrough()
      target.on('data', (chunk: Buffer) => out.push(chunk.toString()))
      return target as unknown as NodeJS.WriteStream // no terminal
    }
    const config = path.join(import.meta.dirname, 'support/guides.config.ts')
    const code = await run({
      argv: [...args, '--config', config],
      cwd: folder,
      stdout: stream(),
      stderr: stream(),
      signal: new AbortController().signal,
    })
    return { code, text: out.join('') }
  }

  beforeAll(async () => {
    vi.stubEnv('DATABASE_URL', database.url)
    vi.stubEnv('KEY_FILE', path.join(folder, 'fieldseal.key'))
    vi.stubEnv('CMKS', 'one')
    vi.stubEnv('FORMER_CMKS', '')
    createKeyFile(path.join(folder, 'fieldseal.key'), ['one', 'two'])
    patient = await seed(TENANT)
  })

  /** The id that stands for the reader's own: the oldest KEK of the tenant under which rows are. */
  async function kekId(): Promise<string> {
    const { keys } = JSON.parse((await fieldseal('status', '--tenant', TENANT, '--json')).text) as Status
    return keys.find(({ purpose, keyspace }) => purpose === 'wrap' && keyspace === 'default')?.id ?? ''
  }

  /** What a reader would type, wait for and be asked. */
  async function asRead(command: string): Promise<readonly string[]> {
    const words = command.split(/\s+/).slice(1)
    const own = { 'subject:patient:42': `subject:patient:${patient}`, '6f2c1b6a90d4e8f7a1b2c3d4': await kekId() }
    const args = words.map((word) => (word in own ? own[word as keyof typeof own] : word))
    if (args[0] === 'plan' && args[1] === 'retire') args.push('--longest-transaction', '0')
    const file = args.find((word) => word.endsWith('.json'))
    const again = guide !== 'off-board-a-tenant.md' || file === 'shred-again.json'
    if (args[1] === 'shred' && again) args.push('--destroy-after', '0')
    if (args[0] !== 'apply' || file === undefined) return args
    const plan = JSON.parse(readFileSync(path.join(folder, file), 'utf8')) as Plan
    await sleep(Math.max(0, Date.parse(plan.notBefore ?? '') - Date.now() + 20 || 0))
    return plan.confirm === undefined ? args : [...args, '--confirm', plan.confirm]
  }

  it('holds commands that work in their order', async () => {
    const commands: string[] = []
    for (const step of stepsOf(guide)) {
      if ('environment' in step) {
        for (const [, name = '', value = ''] of step.environment.matchAll(/(\w+)=(\S*)/g)) vi.stubEnv(name, value)
        continue
      }
      commands.push(step.command)
      const { code, text } = await fieldseal(...(await asRead(step.command)))
      expect({ command: step.command, code, text }).toMatchObject({ command: step.command, code: 0 })
    }
    expect(commands.length).toBeGreaterThan(2)
  }, 60_000)
})

it('documents every exit code', () => {
  const text = readFileSync(path.join(DOCS, 'reference/cli.md'), 'utf8')
  const documented = [...text.matchAll(/^\| (\d+) \|/gm)].map(([, code]) => Number(code))
  expect(documented).toEqual(Object.values(EXIT))
  expect(existsSync(path.join(DOCS, 'guides'))).toBe(true)
})
