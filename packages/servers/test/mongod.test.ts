import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { downloadedMongod, localMongod } from '../src/mongod.ts'
import { startMongo } from '../src/start-mongo.ts'

beforeEach(() => {
  // Said by the run, for its own servers.
  vi.spyOn(process.stderr, 'write').mockReturnValue(true)
})
afterEach(() => {
  vi.restoreAllMocks()
  vi.unstubAllEnvs()
})

describe.skipIf(process.platform === 'win32')('an installed mongod', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'mongod-'))
  const file = path.join(folder, 'mongod')
  writeFileSync(file, '#!/bin/sh\n[ "$1" = --version ] && echo "db version v8.0.4" && exit\nexit 3\n')
  chmodSync(file, 0o755)
  afterAll(() => rmSync(folder, { recursive: true }))

  it('is found on the PATH, with its version', () => {
    expect(localMongod(`/nowhere${path.delimiter}${folder}`)).toEqual({ path: file, version: '8.0.4' })
    expect(localMongod('/nowhere')).toBeUndefined()
  })

  it('that does not start is no server', async () => {
    vi.stubEnv('PATH', `${folder}${path.delimiter}${process.env['PATH'] ?? ''}`)
    vi.stubEnv('MONGODB_URI', undefined)
    vi.stubEnv('SERVERS_FROM', 'local binaries')
    vi.spyOn(console, 'warn').mockReturnValue() // mongodb-memory-server says it too
    await expect(startMongo()).rejects.toThrow(/^no MongoDB: .+\n {2}local binaries: /)
  })
})

it('a mongod that cannot be downloaded is known soon', async () => {
  vi.stubEnv('MONGOMS_DOWNLOAD_MIRROR', 'http://127.0.0.1:9')
  vi.stubEnv('MONGOMS_VERSION', '8.0.1')
  vi.stubEnv('MONGOMS_DOWNLOAD_DIR', path.join(tmpdir(), 'none-here'))
  await expect(downloadedMongod()).rejects.toThrow('127.0.0.1:9 does not offer a download')
})
