import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import path from 'node:path'
import { say } from './say.ts'

/** Whether a download can be had is known after this long; the download itself may take as long as it needs. */
const REACHABLE_WITHIN_MS = 3000

interface Binary {
  readonly path: string
  readonly version: string
}

/** An installed `mongod`; undefined when none is on the PATH. */
export function localMongod(searchPath = process.env['PATH'] ?? ''): Binary | undefined {
  const name = process.platform === 'win32' ? 'mongod.exe' : 'mongod'
  for (const folder of searchPath.split(path.delimiter)) {
    const file = path.join(folder, name)
    if (folder === '' || !existsSync(file)) continue
    const printed = execFileSync(file, ['--version'], { encoding: 'utf8' })
    return { path: file, version: /v(\d+\.\d+\.\d+)/.exec(printed)?.[1] ?? 'unknown' }
  }
  return undefined
}

/**
 * The `mongod` that the npm package `mongodb-memory-server-core` has downloaded, or downloads now.
 *
 * @throws Error when it is not there and cannot be downloaded
 */
export async function downloadedMongod(): Promise<Binary> {
  const { DryMongoBinary, MongoBinary } = await import('mongodb-memory-server-core')
  const options = await DryMongoBinary.generateOptions()
  const { version } = options
  const present = await DryMongoBinary.locateBinary(options)
  if (present !== undefined) return { path: present, version }
  const { MongoBinaryDownloadUrl } = await import('mongodb-memory-server-core/lib/util/MongoBinaryDownloadUrl.js')
  const url = await new MongoBinaryDownloadUrl(options).getDownloadUrl()
  const answer = await fetch(url, { method: 'HEAD', signal: AbortSignal.timeout(REACHABLE_WITHIN_MS) }).catch(
    () => undefined,
  )
  if (!answer?.ok) throw new Error(`${new URL(url).host} does not offer a download`)
  say(`downloading MongoDB ${version}, once`)
  return { path: await MongoBinary.getPath(options), version }
}

/** Starts a replica set of one member on a free port of 127.0.0.1; it ends when this process ends. */
export async function startReplicaSet(binary: Binary): Promise<{ uri: string; stop(): Promise<void> }> {
  const { MongoMemoryReplSet } = await import('mongodb-memory-server-core')
  const replicaSet = await MongoMemoryReplSet.create({
    binary: { systemBinary: binary.path, version: binary.version },
    replSet: { count: 1, storageEngine: 'wiredTiger' },
  })
  return {
    uri: replicaSet.getUri(),
    async stop() {
      await replicaSet.stop()
    },
  }
}
