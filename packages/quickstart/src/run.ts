import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { TenantKeys } from '@fieldseal/core'
import { openRegistry, type KeyDesk, type Patient, type Stage } from './stage.ts'
import { tellStory, type Telling } from './story.ts'

/** One way to run the story. */
export interface Production<S extends Stage> {
  openDesk(folder: string): Promise<KeyDesk>
  openStage(registry: ReadonlyMap<string, TenantKeys>): Promise<S>
  /** Leaves the stored rows in the folder; undefined where there is nothing to keep. */
  readonly keep?: (folder: string, stage: S, patients: readonly Patient[]) => Promise<void>
}

/** Runs the story and prints it, or one JSON object of what was measured. Sets the exit code: 1 when something was not as promised. */
export async function run<S extends Stage>(
  production: Production<S>,
  { json, keep }: { readonly json: boolean; readonly keep: string | undefined },
): Promise<void> {
  const started = performance.now()
  const out = json ? process.stderr : process.stdout
  const tell: Telling = {
    chapter: (title) => out.write(`\n${title}\n`),
    line: (text) => out.write(`   ${text}\n`),
  }
  const folder = keep === undefined ? mkdtempSync(path.join(tmpdir(), 'fieldseal-quickstart-')) : path.resolve(keep)
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  if (readdirSync(folder).length > 0) {
    process.stderr.write(`${folder} is not empty: name another folder for --keep\n`)
    process.exitCode = 2
    return
  }
  const desk = await production.openDesk(folder)
  const registry = openRegistry(desk)
  const stage = await production.openStage(registry)
  try {
    const findings = await tellStory({ stage, desk, registry }, tell, async (patients) => {
      if (keep !== undefined) await production.keep?.(folder, stage, patients)
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
    await stage.close()
    await desk.close()
    if (keep === undefined) rmSync(folder, { recursive: true, force: true })
  }
}
