import { randomUUID } from 'node:crypto'
import type { Report } from '@fieldseal/migrate'
import { type AwsKmsEmulator, startAwsKms } from '@fieldseal/kms-emulators'
import { hasPostgres } from '@fieldseal/servers/vitest'
import { describe, expect, it, type TestContext } from 'vitest'
import { failingAt, refused, type Told } from './support/told.ts'
import { openWard, TENANT, type Ward } from './support/ward.ts'

const TENANTS = ['clinic-0', 'clinic-1', 'clinic-2', 'clinic-3']
const EACH = 5
const REWRAP = ['rewrap', '--model', 'patients', '--batch', String(EACH), '--concurrency', '1']

/** Tenants with a CMK each, whose rows follow each other: a rewrap needs one CMK after the other. */
async function openClinics(
  context: TestContext,
): Promise<{ ward: Ward; kms: AwsKmsEmulator; keyOf: (tenant: string) => string }> {
  const kms = await startAwsKms()
  context.onTestFinished(() => kms.stop())
  const keys = Object.fromEntries([TENANT, ...TENANTS].map((tenant) => [tenant, kms.createKey()]))
  const { accessKeyId, secretAccessKey } = kms.credentials()
  const aws = { endpoint: kms.endpoint, credentials: { accessKeyId, secretAccessKey }, keys }
  const ward = await openWard(context, { rows: 0, aws })
  const { app, migrator } = ward
  for (const [at, clinicId] of TENANTS.entries()) {
    const rows = Array.from({ length: EACH }, (_, i) => ({
      id: `0000000${at}${randomUUID().slice(8)}`,
      clinicId,
      email: `p${i}@x.org`,
      ssn: `ssn-${i}`,
    }))
    await app.fieldseal.runAs({ tenant: clinicId }, () => app.patients().insert(rows))
    await migrator.rotateKek({ tenant: clinicId })
  }
  return { ward, kms, keyOf: (tenant) => keys[tenant] ?? '' }
}

async function converged({ json, reader }: Ward, resumed: boolean): Promise<void> {
  const report = await json<Report>(...REWRAP)
  expect(report).toMatchObject({
    resumed,
    remaining: 0,
    models: [{ rows: TENANTS.length * EACH, failed: 0, denied: 0 }],
  })
  for (const tenant of TENANTS) {
    const found = await reader.fieldseal.runAs({ tenant }, () => reader.patients().findBy({ clinicId: tenant }))
    expect(found.map(({ ssn }) => ssn).toSorted()).toEqual(['ssn-0', 'ssn-1', 'ssn-2', 'ssn-3', 'ssn-4'])
  }
}

describe.runIf(hasPostgres())('a KMS that', { timeout: 60_000 }, () => {
  it.for([
    ['is cut off', 'ERR_KMS_NETWORK', (kms: AwsKmsEmulator) => kms.drop()],
    ['hangs', 'ERR_KMS_TIMEOUT', (kms: AwsKmsEmulator) => kms.hang()],
  ] as const)('%s in the middle of a rewrap stops it with %s, and it goes on', async ([, code, fault], context) => {
    const { ward, kms } = await openClinics(context)
    const error = await failingAt(ward, [3, 'after'], () => fault(kms), REWRAP)
    expect(error).toMatchObject({
      code,
      kind: 'unavailable',
      details: { hint: expect.stringMatching(/same command again/) },
    })
    kms.restore()
    kms.throttle({ times: 1 }) // for a moment: that stops nothing
    await converged(ward, true)
  })

  it('denies the key of one tenant leaves its rows and does the others, exit 3, and the same command does the rest', async (context) => {
    const { ward, kms, keyOf } = await openClinics(context)
    kms.deny({ key: keyOf('clinic-2') })
    const { code, stdout } = await ward.run(...REWRAP, '--json')
    expect(code).toBe(3)
    const { error, report } = JSON.parse(stdout) as Told
    const hint: unknown = expect.stringMatching(/ERR_KMS_ACCESS_DENIED/)
    expect(error).toMatchObject({ code: 'ERR_ROWS_REMAIN', details: { hint } })
    expect(report).toMatchObject({ remaining: EACH, models: [{ denied: EACH, updated: (TENANTS.length - 1) * EACH }] })
    const rotate = ['rotate', 'kek', '--tenant', 'clinic-2']
    const allow: unknown = expect.stringMatching(/allow it/)
    expect(await refused(ward, 5, rotate)).toMatchObject({ code: 'ERR_KMS_ACCESS_DENIED', details: { hint: allow } })
    kms.restore()
    await converged(ward, false)
    expect(await ward.json(...rotate)).toMatchObject({ rotated: [{ version: 3 }] })
  })
})
