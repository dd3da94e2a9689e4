import 'reflect-metadata'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { openLocalDesk, openRegistry, tellStory } from '@fieldseal/quickstart'
import { hasMongo, useMongoDatabase } from '@fieldseal/servers/vitest'
import { describe, expect, it } from 'vitest'
import { openMongooseStage } from '../src/mongoose-stage.ts'

const silent = { chapter: () => undefined, line: () => undefined }

describe.runIf(hasMongo())('the story on Mongoose', () => {
  const database = useMongoDatabase()

  it('measures what it promises, and would count a plaintext on the wire', { timeout: 60_000 }, async () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'fieldseal-story-'))
    const desk = openLocalDesk(path.join(folder, 'fieldseal.key'))
    const registry = openRegistry(desk)
    const stage = await openMongooseStage(database.uri, registry)
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
})
