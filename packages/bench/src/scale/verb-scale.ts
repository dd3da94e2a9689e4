import { type Median, medianOf } from '../harness.ts'
import type { Measured } from './measure.ts'

/** What rounds of one verb have shown. */
export interface VerbScale {
  readonly name: string
  readonly rows: number
  readonly rounds: number
  readonly rowsPerSecond: Median
  readonly cpuPerRow: Median
  readonly peakRss: Median
  /** Time of the last tenth of the rows, as times that of the first. */
  readonly lastTenth: Median
  readonly each: readonly Measured[]
}

/** With fewer rows, the first tenth is mostly the warming up of the process. */
const ROWS_TO_COMPARE = 100_000
/** Goals: MiB, and how far the last tenth may be from the first. */
const MAX_RSS = 200
const MAX_DRIFT = 0.25

export function verbScale(name: string, rows: number, rounds: readonly Measured[]): VerbScale {
  return {
    name,
    rows,
    rounds: rounds.length,
    rowsPerSecond: medianOf(rounds.map(({ rowsPerSecond }) => rowsPerSecond)),
    cpuPerRow: medianOf(rounds.map(({ cpuPerRow }) => cpuPerRow)),
    peakRss: medianOf(rounds.map(({ peakRss }) => peakRss)),
    lastTenth: medianOf(rounds.map(({ tenths }) => (tenths.at(-1) ?? Number.NaN) / (tenths[0] ?? Number.NaN))),
    each: rounds,
  }
}

export function verbsToMarkdown(verbs: readonly VerbScale[]): string {
  const lines = verbs.map(({ name, rows, rounds, rowsPerSecond, cpuPerRow, peakRss, lastTenth }) => {
    const memory = peakRss.median <= MAX_RSS ? 'met' : `missed by ${percent(peakRss.median / MAX_RSS - 1)}`
    const drift = Math.abs(lastTenth.median - 1)
    const linear = rows < ROWS_TO_COMPARE ? 'too few rows' : drift <= MAX_DRIFT ? 'met' : `missed: ${percent(drift)}`
    const cells = [
      name,
      whole(rows),
      String(rounds),
      range(rowsPerSecond, whole),
      range(cpuPerRow, whole),
      `${range(peakRss, whole)}: ${memory}`,
      `${range(lastTenth, (ratio) => ratio.toFixed(2))}: ${linear}`,
    ]
    return `| ${cells.join(' | ')} |`
  })
  return [
    `| verb | rows | rounds | rows/s | µs of CPU a row | peak RSS, MiB (≤ ${MAX_RSS}) | last tenth ÷ first (within ${percent(MAX_DRIFT)}) |`,
    '|---|---|---|---|---|---|---|',
    ...lines,
    '',
  ].join('\n')
}

function range({ median, low, high }: Median, format: (value: number) => string): string {
  return low === high ? format(median) : `${format(median)} (${format(low)}–${format(high)})`
}

const whole = (count: number) => Math.round(count).toLocaleString('en-US')
const percent = (share: number) => `${Math.round(share * 100)} %`
