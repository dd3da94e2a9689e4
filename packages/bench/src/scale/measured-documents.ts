/** The process whose memory and speed are measured: an application on MongoDB that migrates, and nothing else. */
import { openDocumentClinic } from './document-clinic.ts'
import { localKeys } from './local-keys.ts'
import { measureVerb } from './measure.ts'
import { answer, readTask } from './measured-process.ts'
import { TENANT } from './patient.ts'

const { url, keyFile, rows, verb } = readTask()
const { migrator, close } = await openDocumentClinic(url, localKeys(keyFile))
const { rotated } = await migrator.rotateKek({ tenant: TENANT, dryRun: verb === 'verify' })
const measured = await measureVerb(rows, (pace) => migrator[verb](pace))
await close()
answer({ ...measured, ...(rotated[0] === undefined ? {} : { kekId: rotated[0].kekId }) })
