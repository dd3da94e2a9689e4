import { readFileSync } from 'node:fs'
import type { Progress, Report } from '@fieldseal/migrate'

/** What a measured process tells of itself, in MiB. */
export interface Memory {
  readonly rss: number
  readonly heapTotal: number
  readonly heapUsed: number
  /** Outside of V8's heap, array buffers among it. */
  readonly external: number
  readonly arrayBuffers: number
}

export interface Measured {
  readonly rowsPerSecond: number
  /** Microseconds of CPU a row, of all threads. */
  readonly cpuPerRow: number
  /** Milliseconds of each tenth of the rows. */
  readonly tenths: readonly number[]
  /** With the data source open, before the verb. */
  readonly opened: Memory
  /** Of the samples, the one with the largest resident set. */
  readonly peak: Memory
  /** Largest resident set of the process since it began, in MiB; by the kernel where it tells. */
  readonly peakRss: number
  /** The KEK that everything stands under afterwards. */
  readonly kekId?: string
}

const SAMPLE_EVERY_MS = 20
const TENTHS = 10
const TELL_EVERY_MS = 1_000

/** Runs a verb that goes over so many rows in its first walk, and watches the process meanwhile. */
export async function measureVerb(
  rows: number,
  verb: (pace: { readonly onProgress: (progress: Progress) => void }) => Promise<Report>,
): Promise<Measured> {
  const opened = memory()
  let peak = opened
  const sampler = setInterval(() => {
    const now = memory()
    if (now.rss > peak.rss) peak = now
  }, SAMPLE_EVERY_MS)
  const cpu = process.cpuUsage()
  const startedAt = performance.now()
  const tenths = tenthsOf(rows, startedAt)
  let toldAt = startedAt
  const report = await verb({
    onProgress({ verb: name, rows: done, pass, rowsPerSecond }) {
      const now = performance.now()
      if (pass === 1) tenths.pass(done, now)
      if (now - toldAt < TELL_EVERY_MS) return
      toldAt = now
      process.stderr.write(`\r${`${name}: ${done} of ${rows}, ${rowsPerSecond}/s`.padEnd(70)}`)
    },
  })
  const elapsedMs = performance.now() - startedAt
  clearInterval(sampler)
  const { user, system } = process.cpuUsage(cpu)
  if (report.models[0]?.rows !== rows) throw new Error(`${report.verb} saw ${report.models[0]?.rows} of ${rows} rows`)
  return {
    rowsPerSecond: (rows / elapsedMs) * 1_000,
    cpuPerRow: (user + system) / rows,
    tenths: tenths.durations(),
    opened,
    peak,
    peakRss: kernelsPeak() ?? peak.rss,
  }
}

/** When each tenth was passed: between two reports of progress, as if every row took as long. */
function tenthsOf(rows: number, startedAt: number) {
  const passedAt = [startedAt]
  let before = { rows: 0, at: startedAt }
  return {
    pass(done: number, at: number): void {
      for (let next = (rows * passedAt.length) / TENTHS; passedAt.length <= TENTHS && done >= next; ) {
        passedAt.push(before.at + ((at - before.at) * (next - before.rows)) / (done - before.rows))
        next = (rows * passedAt.length) / TENTHS
      }
      before = { rows: done, at }
    },
    durations: (): readonly number[] => passedAt.slice(1).map((at, i) => at - (passedAt[i] ?? at)),
  }
}

function memory(): Memory {
  const { rss, heapTotal, heapUsed, external, arrayBuffers } = process.memoryUsage()
  const mib = (bytes: number) => bytes / 2 ** 20
  return {
    rss: mib(rss),
    heapTotal: mib(heapTotal),
    heapUsed: mib(heapUsed),
    external: mib(external),
    arrayBuffers: mib(arrayBuffers),
  }
}

/** Linux; `getrusage` would tell of the parent's memory too. */
function kernelsPeak(): number | undefined {
  try {
    const kib = /^VmHWM:\s*(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]
    return kib === undefined ? undefined : Number(kib) / 2 ** 10
  } catch {
    return undefined
  }
}
