import { setTimeout as sleep } from 'node:timers/promises'
import { isFieldsealError, type TenantKeys } from '@fieldseal/core'
import { moveWraps, rotateKek } from '@fieldseal/core/adapter'
import { leakOracle } from '@fieldseal/testkit'
import { CACHE, type KeyDesk, type Patient, type Stage } from './stage.ts'

/** What a run measured. */
export interface Findings {
  readonly plaintextHits: number
  readonly rowsWritten: number
  readonly rowsRewrapped: number
  readonly dataRowsWrittenByCmkMove: number
  readonly foundByEmail: boolean
  readonly sameValueDifferentCiphertext: boolean
  readonly swapRefused: boolean
  readonly revokedTenantRefused: boolean
  /** When the last read succeeded that was made under the revoked key. */
  readonly revokedAfterMs: number
  readonly revocationBoundMs: number
  readonly otherTenantReads: number
  readonly kmsCalls: number
}

export interface Telling {
  chapter(title: string): void
  line(text: string): void
}

const PEOPLE = [
  ['clinic-a', 'Ada.Lovelace@example.org', 'Ada Lovelace', '1815-12-10', 'iron deficiency'],
  ['clinic-a', 'charles@example.org', 'Charles Babbage', '1791-12-26', 'iron deficiency'],
  ['clinic-a', 'mary@example.org', 'Mary Somerville', '1780-12-26', null],
  ['clinic-b', 'grace@example.net', 'Grace Hopper', '1906-12-09', 'hypertension'],
  ['clinic-b', 'alan@example.net', 'Alan Turing', '1912-06-23', 'hay fever'],
] as const

/** What the story plays with. */
export interface Scene {
  readonly stage: Stage
  readonly desk: KeyDesk
  readonly registry: Map<string, TenantKeys>
}

/** Tells the story on `tell` and returns what was measured on the way. `keepTables` runs before anything is revoked. */
export async function tellStory(
  { stage, desk, registry }: Scene,
  tell: Telling,
  keepTables: (patients: readonly Patient[]) => Promise<void>,
): Promise<Findings> {
  const { fieldseal } = stage
  let kmsCalls = 0
  fieldseal.on('kms.call', ({ operation }) => {
    if (operation === 'wrap' || operation === 'unwrap' || operation === 'generate') kmsCalls++
  })
  const as = <R>(clinicId: string, fn: () => Promise<R>) =>
    fieldseal.runAs({ tenant: clinicId, actor: 'quickstart' }, fn)
  const readAll = (clinicId: string) => as(clinicId, () => stage.readAll(clinicId))

  tell.chapter('1. The application writes plain entities')
  const written: Patient[] = []
  for (const [clinicId, email, name, born, diagnosis] of PEOPLE) {
    const ward = `ward ${written.length + 1}`
    written.push(await as(clinicId, () => stage.save({ clinicId, ward, email, name, born, diagnosis })))
    tell.line(`${clinicId}: save({ email: '${email}', name: '${name}', … })`)
  }

  tell.chapter('2. The database holds ciphertext')
  for (const row of await stage.storedRows())
    tell.line(`${row['clinic_id'] ?? row['clinicId']}  email=${shorten(row['email'])}  name=${shorten(row['name'])}`)
  const [ada, charles] = await readAll('clinic-a')
  const stored = new Map((await stage.storedRows()).map((row) => [row['id'], row]))
  const sameValueDifferentCiphertext =
    ada?.diagnosis === charles?.diagnosis &&
    stored.get(ada?.id ?? '')?.['diagnosis'] !== stored.get(charles?.id ?? '')?.['diagnosis']
  tell.line(`Ada and Charles have the same diagnosis; their ciphertexts differ: ${sameValueDifferentCiphertext}`)

  tell.chapter('3. It is found by an encrypted e-mail address')
  const found = await as('clinic-a', () => stage.findByEmail('ada.lovelace@EXAMPLE.org'))
  tell.line(`${stage.queryByEmail('ada.lovelace@EXAMPLE.org')} → ${found?.name}`)
  const elsewhere = await as('clinic-b', () => stage.findByEmail('ada.lovelace@example.org'))
  tell.line(`the same question from clinic-b → ${elsewhere === null ? 'nobody' : elsewhere.name}`)

  tell.chapter('4. The key encryption key of clinic-a is rotated; rows follow when they are read')
  const rotated = await rotateKek(fieldseal, { tenant: 'clinic-a' })
  tell.line(`clinic-a now wraps with version ${rotated.version} of its KEK`)
  await readAll('clinic-a')
  const { updated: rowsRewrapped } = await fieldseal.flush()
  tell.line(`reading them rewrapped ${rowsRewrapped} rows in the background; their values were not encrypted anew`)

  tell.chapter('5. The CMK of clinic-a is replaced: key records are rewritten, data is not')
  const before = await stage.rowVersions()
  registry.set('clinic-a', { cmks: [desk.cmk('clinic-a-new')], formerCmks: [desk.cmk('clinic-a')] })
  const moved = await moveWraps(fieldseal, { tenant: 'clinic-a' })
  await desk.disable('clinic-a')
  fieldseal.purge('clinic-a') // the next read has to open its keys by the new CMK alone
  const readable = await readAll('clinic-a')
  const after = await stage.rowVersions()
  const dataRowsWrittenByCmkMove = [...after].filter(([id, version]) => before.get(id) !== version).length
  tell.line(
    `${moved.rewritten} key records rewritten, ${dataRowsWrittenByCmkMove} data rows written; old CMK disabled, ${readable.length} rows read`,
  )
  await keepTables(written)

  tell.chapter('6. Clinic B disables its CMK')
  const { reachable } = fieldseal.revocationBoundMs('clinic-b')
  tell.line(`limits of this demo: ${JSON.stringify(CACHE)}; a revocation takes effect within ${reachable} ms`)
  await readAll('clinic-b')
  await desk.disable('clinic-b')
  const revoked = await waitForRefusal(readAll, reachable + 2_000)
  tell.line(
    `the last read of clinic-b that succeeded was ${revoked.lastReadMs} ms later, then it was refused (${revoked.code}); clinic-a went on: ${revoked.otherTenantReads} reads`,
  )

  tell.chapter('7. Somebody with access to the database swaps two cells')
  await stage.swapNames(ada?.id ?? '', charles?.id ?? '')
  const swap = await codeOf(readAll('clinic-a'))
  tell.line(`reading the rows is refused: ${swap ?? 'no, it was not noticed'}`)
  await stage.swapNames(ada?.id ?? '', charles?.id ?? '')

  await using oracle = leakOracle({ taps: 'none' }) // the story itself prints what the application knows
  for (const [, ...values] of PEOPLE) for (const value of values) if (value !== null) oracle.canary(value)
  oracle.observe(JSON.stringify(await stage.storedRows()), 'raw rows')
  oracle.observe(stage.traffic(), 'wire')
  return {
    plaintextHits: (await oracle.hits()).length,
    rowsWritten: (await stage.storedRows()).length,
    rowsRewrapped,
    dataRowsWrittenByCmkMove,
    foundByEmail: found?.id === written[0]?.id && elsewhere === null,
    sameValueDifferentCiphertext,
    swapRefused: swap !== undefined,
    revokedTenantRefused: revoked.code !== undefined,
    revokedAfterMs: revoked.lastReadMs,
    revocationBoundMs: reachable,
    otherTenantReads: revoked.otherTenantReads,
    kmsCalls,
  }
}

/** Reads as both clinics until clinic B is refused: no purge, only the limits of the key cache. */
async function waitForRefusal(readAll: (clinicId: string) => Promise<readonly Patient[]>, giveUpAfterMs: number) {
  const started = performance.now()
  const elapsed = () => Math.max(1, Math.round(performance.now() - started))
  let otherTenantReads = 0
  let lastReadMs = 1
  for (;;) {
    const code = await codeOf(readAll('clinic-b'))
    if (code === undefined) lastReadMs = elapsed()
    if ((await readAll('clinic-a')).length > 0) otherTenantReads++
    if (code !== undefined || elapsed() > giveUpAfterMs) return { code, lastReadMs, otherTenantReads }
    await sleep(50)
  }
}

async function codeOf(work: Promise<unknown>): Promise<string | undefined> {
  try {
    await work
    return undefined
  } catch (error) {
    if (isFieldsealError(error)) return error.code
    throw error
  }
}

function shorten(text: string | undefined): string {
  return text === undefined ? '' : `${text.slice(0, 26)}… (${text.length} characters)`
}
