import { fakeKms } from '@fieldseal/testkit'
import { type Median, medianOf, quantile, shuffled } from '../harness.ts'
import { fillClinic } from '../scale/fill-clinic.ts'
import { describeServer } from '../scale/server.ts'
import { LOOP, type RotationCase, rotationCases } from './rotation-cases.ts'

export interface RotationResult {
  readonly name: string
  readonly rowsPerSecond: { readonly median: number; readonly p10: number; readonly p90: number }
  /** Rows a second, as times those of the loop in the same round. */
  readonly ratio: Median
  readonly goal?: number
}

export interface Rotation extends Pick<RotationOptions, 'rounds' | 'rows'> {
  /** `PostgreSQL 15.18, fsync off, synchronous_commit off` */
  readonly server: string
  readonly cases: readonly RotationResult[]
}

export interface RotationOptions {
  readonly rounds: number
  readonly rows: number
  readonly onProgress: (text: string) => void
}

/**
 * Rows a second of the verbs beside plain UPDATEs of the same bytes, on PostgreSQL. Every run has a copy of the filled
 * database to itself, so that no case leaves dead rows, or keys, to another. The first round warms up.
 */
export async function rotationBench(
  serverUrl: string,
  { rounds, rows, onProgress }: RotationOptions,
): Promise<Rotation> {
  const keys = { cmks: [fakeKms().cmk('bench')] }
  const filled = {
    patients: await fillClinic(serverUrl, { table: 'patients', keys, rows }, onProgress),
    newcomers: await fillClinic(serverUrl, { table: 'newcomers', keys, rows }, onProgress),
  }
  const cases = rotationCases(keys, rows)
  const rates = new Map(cases.map(({ name }) => [name, [] as number[]]))
  for (let round = 0; round <= rounds; round++) {
    onProgress(round === 0 ? 'rotation: warming up' : `rotation: round ${round} of ${rounds}`)
    for (const candidate of shuffled(cases)) {
      const database = await filled[candidate.table].copy()
      const seconds = await timed(candidate, database.url)
      await database.drop()
      if (round > 0) rates.get(candidate.name)?.push(candidate.rows / seconds)
    }
  }
  await filled.patients.drop()
  await filled.newcomers.drop()
  const loop = rates.get(LOOP) ?? []
  const results = cases.map(({ name, goal }) => {
    const own = rates.get(name) ?? []
    return {
      name,
      rowsPerSecond: { median: quantile(own, 0.5), p10: quantile(own, 0.1), p90: quantile(own, 0.9) },
      ratio: medianOf(own.map((rate, round) => rate / (loop[round] ?? Number.NaN))),
      ...(goal === undefined ? {} : { goal }),
    }
  })
  return { server: await describeServer(serverUrl), rounds, rows, cases: results }
}

/** Seconds of one run, without what prepares and checks it. */
async function timed(candidate: RotationCase, url: string): Promise<number> {
  const opened = await candidate.open(url)
  globalThis.gc?.()
  const startedAt = performance.now()
  await opened.run()
  const seconds = (performance.now() - startedAt) / 1_000
  await opened.check()
  await opened.close()
  return seconds
}

export function rotationToMarkdown({ server, rounds, rows, cases }: Rotation): string {
  const lines = cases.map(({ name, rowsPerSecond: { median, p10, p90 }, ratio, goal }) => {
    const met =
      goal === undefined
        ? ''
        : ratio.median >= goal
          ? `≥ ${goal}: met`
          : `≥ ${goal}: missed by ${Math.round((1 - ratio.median / goal) * 100)} %`
    return `| ${name} | ${whole(median)} | ${whole(p10)}–${whole(p90)} | ${ratio.median.toFixed(2)} (${ratio.low.toFixed(2)}–${ratio.high.toFixed(2)}) | ${met} |`
  })
  return [
    '### Rotation of stored rows',
    '',
    `${server}; ${rounds} rounds of ${whole(rows)} rows with three encrypted fields each; every row was seen to be rewritten under the newest key, and to open.`,
    '',
    '| case | rows/s | p10–p90 | × loop (95 %) | goal |',
    '|---|---|---|---|---|',
    ...lines,
    '',
  ].join('\n')
}

const whole = (count: number) => Math.round(count).toLocaleString('en-US')
