import { setTimeout as sleep } from 'node:timers/promises'
import { createFieldseal } from '@fieldseal/core'
import { attach, type Envelope } from '@fieldseal/core/adapter'
import { fakeKms, memoryKeyStore } from '@fieldseal/testkit'
import { quantile } from '../harness.ts'

const NEIGHBOURS = 8
const READS_PER_PHASE = 4_000
const READS_AT_ONCE = 8
/** Requests for the hanging tenant that arrive all the while, each with keys that have to be asked for. */
const HUNG_AT_ONCE = 200
const RUNS = 5

export interface HangingKms {
  /** p99 of a neighbour's read in microseconds, per run: all well, and while one tenant's KMS hangs. */
  readonly runs: readonly { readonly calm: number; readonly hung: number }[]
  /** Median of the ratios. */
  readonly ratio: number
  /** Most calls to the hanging KMS that were under way at once. */
  readonly slots: number
}

/**
 * One tenant's KMS answers no more, and its requests keep coming; how long do reads of other tenants take, whose keys are
 * warm? Both phases of a run are as long.
 */
export async function hangingKms(onProgress: (text: string) => void): Promise<HangingKms> {
  const runs: { readonly calm: number; readonly hung: number }[] = []
  let slots = 0
  for (let run = 0; run < RUNS; run++) {
    onProgress(`hanging KMS: run ${run + 1} of ${RUNS}`)
    const measured = await once()
    runs.push(measured)
    slots = Math.max(slots, measured.slots)
  }
  return {
    runs,
    slots,
    ratio: quantile(
      runs.map(({ calm, hung }) => hung / calm),
      0.5,
    ),
  }
}

async function once(): Promise<{ readonly calm: number; readonly hung: number; readonly slots: number }> {
  const kms = fakeKms()
  const keyStore = memoryKeyStore()
  const tenants = Array.from({ length: NEIGHBOURS }, (_unused, i) => `neighbour-${i}`)
  const open = () =>
    createFieldseal({
      app: 'bench',
      tenancy: 'multi',
      keyStore,
      keys: async (tenant) => ({ cmks: [kms.cmk(tenant, { credentialScope: tenant })] }),
      cache: { callDeadlineMs: 500 },
    })
  const fieldseal = open()
  const host = attach(fieldseal, { name: 'bench', ormVersion: '0' })
  const map = host.defineModel({
    id: 'rows',
    options: { tenantBy: 'tenant' },
    fields: [{ path: 'text', type: 'string', options: {} }],
    rowKey: [],
  })
  const [field] = map.fields
  if (field === undefined) throw new Error('the model has a field')

  const sealed = new Map<string, Envelope>()
  for (const tenant of [...tenants, 'hung']) {
    await fieldseal.runAs({ tenant }, async () => {
      const context = host.capture()
      const row = { map, facts: map.facts({ tenant }, context), cells: [{ field, value: 'x'.repeat(32) }] }
      const [result] = await host.cipher.seal([row], context)
      sealed.set(tenant, result?.envelopes[0] as Envelope) // one row, one cell
    })
  }
  const read = (tenant: string) =>
    fieldseal.runAs({ tenant }, async () => {
      const context = host.capture()
      const cells = [{ field, value: sealed.get(tenant) }]
      const [opened] = await host.cipher.open([{ map, facts: map.facts({ tenant }, context), cells }], context)
      if (opened?.values[0] !== 'x'.repeat(32)) throw new Error('a neighbour read something else')
    })

  async function phase(): Promise<number> {
    const latencies: number[] = []
    let next = 0
    const reader = async () => {
      for (let at = next++; at < READS_PER_PHASE; at = next++) {
        const started = process.hrtime.bigint()
        await read(tenants[at % tenants.length] as string) // the index is within bounds
        latencies.push(Number(process.hrtime.bigint() - started) / 1_000)
        if (at % 50 === 0) await sleep(1)
      }
    }
    await Promise.all(Array.from({ length: READS_AT_ONCE }, reader))
    return quantile(latencies, 0.99)
  }

  await phase()
  const calm = await phase()
  kms.hang('hung')
  fieldseal.purge('hung')
  let stopped = false
  const before = kms.calls.length
  const waiting = Array.from({ length: HUNG_AT_ONCE }, async () => {
    while (!stopped) {
      await read('hung').catch(() => {})
      await sleep(5)
    }
  })
  await sleep(50)
  const slots = kms.calls.slice(before).filter(({ uri }) => uri === 'hung').length
  const hung = await phase()
  stopped = true
  await Promise.all(waiting)
  await fieldseal.close()
  return { calm, hung, slots }
}

export function hangingKmsToMarkdown({ runs, ratio, slots }: HangingKms): string {
  const rows = runs.map(
    ({ calm, hung }, at) => `| ${at + 1} | ${calm.toFixed(0)} | ${hung.toFixed(0)} | ${(hung / calm).toFixed(2)} |`,
  )
  return [
    "### Reads of other tenants while one tenant's KMS hangs",
    '',
    `${HUNG_AT_ONCE} requests of the hanging tenant at once, ${READS_AT_ONCE} readers of ${NEIGHBOURS} other tenants with warm keys. ${slots} calls to the hanging KMS were under way in the first 50 ms.`,
    '',
    '| run | p99 calm, µs | p99 hanging, µs | ratio |',
    '|---|---|---|---|',
    ...rows,
    `| median | | | ${ratio.toFixed(2)}${ratio <= 1.25 ? ' (≤ 1.25: met)' : ` (≤ 1.25: missed by ${Math.round((ratio / 1.25 - 1) * 100)} %)`} |`,
    '',
  ].join('\n')
}
