import { setTimeout as sleep } from 'node:timers/promises'
import { isFieldsealError } from '@fieldseal/core'
import { moveWraps, rotateKek } from '@fieldseal/core/adapter'
import { changeCmk } from '@fieldseal/kms-local'
import { leakOracle } from '@fieldseal/testkit'
import { CACHE, type Clinics } from './clinics.ts'
import { Patient } from './patient.ts'

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

/** Tells the story on `tell` and returns what was measured on the way. `keepTables` runs before anything is revoked. */
export async function tellStory(
  clinics: Clinics,
  tell: Telling,
  keepTables: (patients: readonly Patient[]) => Promise<void>,
): Promise<Findings> {
  const { dataSource, fieldseal, registry, cmk, keyFile } = clinics
  const patients = dataSource.getRepository(Patient)
  const as = <R>(clinicId: string, fn: () => Promise<R>) =>
    fieldseal.runAs({ tenant: clinicId, actor: 'quickstart' }, fn)
  const raw = (): Promise<Record<string, string>[]> =>
    dataSource.query('SELECT * FROM patients ORDER BY clinic_id, ward')

  tell.chapter('1. The application writes plain entities')
  const written: Patient[] = []
  for (const [clinicId, email, name, born, diagnosis] of PEOPLE) {
    const ward = `ward ${written.length + 1}`
    written.push(
      await as(clinicId, () => patients.save(patients.create({ clinicId, ward, email, name, born, diagnosis }))),
    )
    tell.line(`${clinicId}: save({ email: '${email}', name: '${name}', … })`)
  }

  tell.chapter('2. The database holds ciphertext')
  for (const row of await raw())
    tell.line(`${row['clinic_id']}  email=${shorten(row['email'])}  name=${shorten(row['name'])}`)
  const [ada, charles] = await as('clinic-a', () =>
    patients.find({ where: { clinicId: 'clinic-a' }, order: { ward: 'ASC' } }),
  )
  const stored = new Map((await raw()).map((row) => [row['id'], row]))
  const sameValueDifferentCiphertext =
    ada?.diagnosis === charles?.diagnosis &&
    stored.get(ada?.id ?? '')?.['diagnosis'] !== stored.get(charles?.id ?? '')?.['diagnosis']
  tell.line(`Ada and Charles have the same diagnosis; their ciphertexts differ: ${sameValueDifferentCiphertext}`)

  tell.chapter('3. It is found by an encrypted e-mail address')
  const found = await as('clinic-a', () => patients.findOneBy({ email: 'ada.lovelace@EXAMPLE.org' }))
  tell.line(`findOneBy({ email: 'ada.lovelace@EXAMPLE.org' }) → ${found?.name}`)
  const elsewhere = await as('clinic-b', () => patients.findOneBy({ email: 'ada.lovelace@example.org' }))
  tell.line(`the same question from clinic-b → ${elsewhere === null ? 'nobody' : elsewhere.name}`)

  tell.chapter('4. The key encryption key of clinic-a is rotated; rows follow when they are read')
  const rotated = await rotateKek(fieldseal, { tenant: 'clinic-a' })
  tell.line(`clinic-a now wraps with version ${rotated.version} of its KEK`)
  await as('clinic-a', () => patients.findBy({ clinicId: 'clinic-a' }))
  const { updated: rowsRewrapped } = await fieldseal.flush()
  tell.line(`reading them rewrapped ${rowsRewrapped} rows in the background; their values were not encrypted anew`)

  tell.chapter('5. The CMK of clinic-a is replaced: key records are rewritten, data is not')
  const before = await versions(clinics)
  registry.set('clinic-a', { cmks: [cmk('clinic-a-new')], formerCmks: [cmk('clinic-a')] })
  const moved = await moveWraps(fieldseal, { tenant: 'clinic-a' })
  changeCmk(keyFile, 'clinic-a', 'disable')
  fieldseal.purge('clinic-a') // the next read has to open its keys by the new CMK alone
  const readable = await as('clinic-a', () => patients.findBy({ clinicId: 'clinic-a' }))
  const after = await versions(clinics)
  const dataRowsWrittenByCmkMove = [...after].filter(([id, version]) => before.get(id) !== version).length
  tell.line(
    `${moved.rewritten} key records rewritten, ${dataRowsWrittenByCmkMove} data rows written; old CMK disabled, ${readable.length} rows read`,
  )
  await keepTables(written)

  tell.chapter('6. Clinic B disables its CMK')
  const { reachable } = fieldseal.revocationBoundMs('clinic-b')
  tell.line(`limits of this demo: ${JSON.stringify(CACHE)}; a revocation takes effect within ${reachable} ms`)
  await as('clinic-b', () => patients.findBy({ clinicId: 'clinic-b' }))
  changeCmk(keyFile, 'clinic-b', 'disable')
  const revoked = await waitForRefusal(clinics, reachable + 2_000)
  tell.line(
    `clinic-b was refused after ${revoked.afterMs} ms (${revoked.code}); clinic-a went on: ${revoked.otherTenantReads} reads`,
  )

  tell.chapter('7. Somebody with access to the database swaps two cells')
  await swapNames(clinics, ada?.id ?? '', charles?.id ?? '')
  const swap = await codeOf(as('clinic-a', () => patients.findBy({ clinicId: 'clinic-a' })))
  tell.line(`reading the rows is refused: ${swap ?? 'no, it was not noticed'}`)
  await swapNames(clinics, ada?.id ?? '', charles?.id ?? '')

  await using oracle = leakOracle({ taps: 'none' }) // the story itself prints what the application knows
  for (const [, ...values] of PEOPLE) for (const value of values) if (value !== null) oracle.canary(value)
  oracle.observe(JSON.stringify(await raw()), 'raw rows')
  oracle.observe(clinics.traffic(), 'wire')
  return {
    plaintextHits: (await oracle.hits()).length,
    rowsWritten: (await raw()).length,
    rowsRewrapped,
    dataRowsWrittenByCmkMove,
    foundByEmail: found?.id === written[0]?.id && elsewhere === null,
    sameValueDifferentCiphertext,
    swapRefused: swap !== undefined,
    revokedTenantRefused: revoked.code !== undefined,
    revokedAfterMs: revoked.afterMs,
    revocationBoundMs: reachable,
    otherTenantReads: revoked.otherTenantReads,
    kmsCalls: clinics.kmsCalls(),
  }
}

/** Reads as both clinics until clinic B is refused: no purge, only the limits of the key cache. */
async function waitForRefusal({ dataSource, fieldseal }: Clinics, giveUpAfterMs: number) {
  const patients = dataSource.getRepository(Patient)
  const started = performance.now()
  let otherTenantReads = 0
  for (;;) {
    const code = await codeOf(fieldseal.runAs({ tenant: 'clinic-b' }, () => patients.findBy({ clinicId: 'clinic-b' })))
    const afterMs = Math.round(performance.now() - started)
    const readable = await fieldseal.runAs({ tenant: 'clinic-a' }, () => patients.findBy({ clinicId: 'clinic-a' }))
    if (readable.length > 0) otherTenantReads++
    if (code !== undefined || afterMs > giveUpAfterMs) return { code, afterMs, otherTenantReads }
    await sleep(50)
  }
}

/** PostgreSQL gives a row a new xmin whenever it is written. */
async function versions({ dataSource }: Clinics): Promise<ReadonlyMap<string, string>> {
  const rows: { readonly id: string; readonly xmin: string }[] = await dataSource.query(
    'SELECT id, xmin::text AS xmin FROM patients',
  )
  return new Map(rows.map(({ id, xmin }) => [id, xmin]))
}

async function swapNames({ dataSource }: Clinics, one: string, other: string): Promise<void> {
  await dataSource.query(
    'UPDATE patients p SET name = q.name FROM patients q WHERE (p.id = $1 AND q.id = $2) OR (p.id = $2 AND q.id = $1)',
    [one, other],
  )
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
