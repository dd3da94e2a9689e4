import 'reflect-metadata'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { openLocalDesk, openRegistry, openTypeormStage, tellStory, type Stage } from '@fieldseal/quickstart'
import { hasMongo, useMongoDatabase } from '@fieldseal/servers/vitest'
import { describe, expect, it } from 'vitest'
import { openCloudDesk } from '../src/cloud-desk.ts'
import { openMongooseStage } from '../src/mongoose-stage.ts'

const silent = { chapter: () => undefined, line: () => undefined }

type Desk = ReturnType<typeof openLocalDesk>

async function play(
  openDesk: (folder: string) => Desk | Promise<Desk>,
  openStage: (registry: ReturnType<typeof openRegistry>) => Promise<Stage>,
) {
  const folder = mkdtempSync(path.join(tmpdir(), 'fieldseal-story-'))
  const desk = await openDesk(folder)
  const registry = openRegistry(desk)
  const stage = await openStage(registry)
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
    await desk.close()
    rmSync(folder, { recursive: true, force: true })
  }
}

describe.runIf(hasMongo())('the story on Mongoose', () => {
  const database = useMongoDatabase()

  it('measures what it promises, and would count a plaintext on the wire', { timeout: 60_000 }, () =>
    play(
      (folder) => openLocalDesk(path.join(folder, 'fieldseal.key')),
      (registry) => openMongooseStage(database.uri, registry),
    ),
  )
})

describe('the story with CMKs in emulated clouds', () => {
  it.each(['aws', 'gcp'] as const)('measures what it promises, with the keys in %s', { timeout: 60_000 }, (cloud) =>
    play(() => openCloudDesk(cloud), openTypeormStage),
  )
})
