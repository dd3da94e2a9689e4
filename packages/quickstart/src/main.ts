import 'reflect-metadata'
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { openClinics } from './clinics.ts'
import { keep } from './keep.ts'
import { tellStory, type Telling } from './story.ts'

const HELP = `Fieldseal quickstart: PostgreSQL in this process, TypeORM, two clinics with keys of their own.

  npm run quickstart                       the story
  npm run quickstart -- --json             one JSON object on stdout, all else on stderr
  npm run quickstart -- --keep DIR         leaves tables.sql, fieldseal.key and known.json in DIR
`

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    keep: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
})
if (values.help) process.stdout.write(HELP)
else await main(values.json, values.keep)

async function main(json: boolean, keepIn: string | undefined): Promise<void> {
  const started = performance.now()
  const out = json ? process.stderr : process.stdout
  const tell: Telling = {
    chapter: (title) => out.write(`\n${title}\n`),
    line: (text) => out.write(`   ${text}\n`),
  }
  const folder = keepIn === undefined ? mkdtempSync(path.join(tmpdir(), 'fieldseal-quickstart-')) : path.resolve(keepIn)
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  if (readdirSync(folder).length > 0) {
    process.stderr.write(`${folder} is not empty: name another folder for --keep\n`)
    process.exitCode = 2
    return
  }
  const clinics = await openClinics(folder)
  try {
    const findings = await tellStory(clinics, tell, async (patients) => {
      if (keepIn !== undefined) await keep(folder, clinics.dataSource, clinics.keyFile, patients)
    })
    const result = { ...findings, seconds: Math.round((performance.now() - started) / 10) / 100 }
    if (json) process.stdout.write(`${JSON.stringify(result)}\n`)
    else {
      tell.chapter('Measured in this run')
      for (const [name, value] of Object.entries(result)) tell.line(`${name.padEnd(28)} ${value}`)
      tell.line('')
      tell.line('Read next: README.md, docs/concepts/keys.md, docs/concepts/threat-model.md, docs/spec/envelope-v1.md')
    }
    const asPromised =
      result.plaintextHits === 0 &&
      result.foundByEmail &&
      result.swapRefused &&
      result.revokedTenantRefused &&
      result.dataRowsWrittenByCmkMove === 0
    if (!asPromised) process.exitCode = 1
  } finally {
    await clinics.close()
    if (keepIn === undefined) rmSync(folder, { recursive: true, force: true })
  }
}
