import { type Database, startPostgres } from '@fieldseal/servers'
import type { Table } from './clinic.ts'
import { fillClinic } from './fill-clinic.ts'
import { createKeys } from './local-keys.ts'
import type { Measured } from './measure.ts'
import { measureInProcess } from './measured-process.ts'
import { type MoveScale, moveScale } from './move-scale.ts'
import { assertSealedUnder } from './sealed-rows.ts'
import { describeServer } from './server.ts'
import { type VerbScale, verbScale } from './verb-scale.ts'

export interface PartOptions {
  readonly rows: number
  readonly rounds: number
  /** Holds the keys that the processes share. */
  readonly keyFile: string
  readonly wanted: (part: 'rewrap' | 'backfill' | 'documents' | 'move') => boolean
  readonly onProgress: (text: string) => void
}

export interface RowParts {
  readonly server: string
  readonly verbs: readonly VerbScale[]
  readonly move?: MoveScale
}

/** The parts on PostgreSQL. This process fills tables and looks after them; others are measured. */
export async function rowParts({ rows, rounds, keyFile, wanted, onProgress }: PartOptions): Promise<RowParts> {
  const server = await startPostgres()
  const keys = createKeys(keyFile)
  const verbs: VerbScale[] = []
  let move: MoveScale | undefined

  /** Each round on a copy of the filled database: without the dead rows and the keys of others. */
  async function measured(verb: 'rewrap' | 'backfill', table: Table, filled: Database): Promise<void> {
    const sealing: Measured[] = []
    for (let round = 1; round <= rounds; round++) {
      onProgress(`${verb}: round ${round} of ${rounds}`)
      const { url, drop } = await filled.copy()
      const result = await measureInProcess('measured-rows', { url, keyFile, rows, verb })
      await assertSealedUnder(result.kekId ?? '', { url, table, rows })
      sealing.push(result)
      if (round === rounds && verb === 'rewrap') {
        const opened = await measureInProcess('measured-rows', { url, keyFile, rows, verb: 'verify' })
        verbs.push(verbScale('verify, PostgreSQL', rows, [opened]))
      }
      await drop()
    }
    verbs.push(verbScale(`${verb}, PostgreSQL`, rows, sealing))
  }

  if (wanted('rewrap') || wanted('move')) {
    const filled = await fillClinic(server.url, { table: 'patients', keys, rows }, onProgress)
    if (wanted('rewrap')) await measured('rewrap', 'patients', filled)
    if (wanted('move')) {
      onProgress('move')
      move = await moveScale(filled.url, keys, rows)
    }
    await filled.drop()
  }
  if (wanted('backfill')) {
    const filled = await fillClinic(server.url, { table: 'newcomers', keys, rows }, onProgress)
    await measured('backfill', 'newcomers', filled)
    await filled.drop()
  }
  const described = await describeServer(server.url)
  await server.stop()
  return { server: described, verbs, ...(move === undefined ? {} : { move }) }
}
