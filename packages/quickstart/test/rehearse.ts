import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { expect } from 'vitest'
import { openRegistry, tellStory, type KeyDesk, type Stage } from '../src/index.ts'

const silent = { chapter: () => undefined, line: () => undefined }

/** Plays the story with one plaintext put on the wire, and expects that everything is as promised and that one is found. */
export async function rehearse(
  openDesk: (folder: string) => KeyDesk | Promise<KeyDesk>,
  openStage: (registry: ReturnType<typeof openRegistry>) => Promise<Stage>,
): Promise<void> {
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
