import 'reflect-metadata'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { expect, it } from 'vitest'
import { openLocalDesk } from '../src/local-desk.ts'
import { openRegistry } from '../src/stage.ts'
import { tellStory } from '../src/story.ts'
import { openTypeormStage } from '../src/typeorm-stage.ts'

const silent = { chapter: () => undefined, line: () => undefined }

it('measures what it promises, and would count a plaintext on the wire', { timeout: 60_000 }, async () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'fieldseal-story-'))
  const desk = openLocalDesk(path.join(folder, 'fieldseal.key'))
  const registry = openRegistry(desk)
  const stage = await openTypeormStage(registry)
  try {
    const leaking = { ...stage, traffic: () => Buffer.concat([stage.traffic(), Buffer.from('… Ada Lovelace …')]) }
    const findings = await tellStory({ stage: leaking, desk, registry }, silent, async () => undefined)
    expect(findings).toMatchObject({
      plaintextHits: 1, // the one put there
      rowsWritten: 5,
      rowsRewrapped: 3,
      dataRowsWrittenByCmkMove: 0,
      foundByEmail: true,
      sameValueDifferentCiphertext: true,
      swapRefused: true,
      revokedTenantRefused: true,
    })
    expect(findings.revokedAfterMs).toBeLessThanOrEqual(findings.revocationBoundMs)
    expect(findings.otherTenantReads).toBeGreaterThan(0)
  } finally {
    await stage.close()
    rmSync(folder, { recursive: true, force: true })
  }
})
