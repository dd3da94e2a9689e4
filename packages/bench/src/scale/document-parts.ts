import { startMongo } from '@fieldseal/servers'
import { assertDocumentsUnder, copyDocuments, dropDocuments, fillDocuments } from './document-scale.ts'
import { createKeys } from './local-keys.ts'
import type { Measured } from './measure.ts'
import { measureInProcess } from './measured-process.ts'
import type { PartOptions } from './row-parts.ts'
import { type VerbScale, verbScale } from './verb-scale.ts'

export interface DocumentParts {
  readonly server: string
  readonly verbs: readonly VerbScale[]
}

/** The part on MongoDB. This process runs the engine's gateway and fills collections; others are measured. */
export async function documentParts({
  rows,
  rounds,
  keyFile,
  onProgress,
}: Omit<PartOptions, 'wanted'>): Promise<DocumentParts> {
  const server = await startMongo()
  const filled = await fillDocuments(server.uri, { keys: createKeys(keyFile), rows }, onProgress)
  const verbs: VerbScale[] = []
  const rewraps: Measured[] = []
  for (let round = 1; round <= rounds; round++) {
    onProgress(`rewrap of documents: round ${round} of ${rounds}`)
    const url = await copyDocuments(server.uri, filled)
    const result = await measureInProcess('measured-documents', { url, keyFile, rows, verb: 'rewrap' })
    await assertDocumentsUnder(result.kekId ?? '', url, rows)
    rewraps.push(result)
    if (round === rounds) {
      const opened = await measureInProcess('measured-documents', { url, keyFile, rows, verb: 'verify' })
      verbs.push(verbScale('verify, documents', rows, [opened]))
    }
    await dropDocuments(url)
  }
  verbs.push(verbScale('rewrap, documents', rows, rewraps))
  await dropDocuments(filled)
  await server.stop()
  return { server: `${server.engine} ${server.version}`, verbs }
}
