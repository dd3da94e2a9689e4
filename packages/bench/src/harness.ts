/** One way to do a piece of work, timed against others of the same group. */
export interface BenchCase {
  readonly name: string
  /** Does the work once; `units` of it are what one call is worth. */
  run(): unknown
}

export interface BenchGroup {
  readonly name: string
  /** What one measured unit is: `value`, `row`, `call`. */
  readonly unit: string
  /** Units of work in one `run()`. */
  readonly unitsPerRun: number
  /** The case that ratios are taken to. */
  readonly floor: string
  readonly cases: readonly BenchCase[]
  /** The goal for `goal.case`: at most this many times the floor. */
  readonly goals?: Readonly<Record<string, number>>
  /** Proves that every case does what it says, before anything is timed. Throws otherwise. */
  gate(): Promise<void> | void
}

export interface CaseResult {
  readonly group: string
  readonly name: string
  readonly unit: string
  /** Nanoseconds per unit. */
  readonly median: number
  readonly p10: number
  readonly p90: number
  readonly min: number
  /** Median of the ratios to the floor in the same round, with a 95 % bootstrap interval. */
  readonly ratio: number
  readonly ratioLow: number
  readonly ratioHigh: number
  readonly goal?: number
}

export interface HarnessOptions {
  readonly rounds: number
  /** How long one sample lasts at least, in milliseconds. */
  readonly sampleMs: number
  readonly onProgress?: (text: string) => void
}

/**
 * Times all cases of a group once per round, in random order, so that noise of the machine meets all alike; only ratios
 * within one round are compared.
 */
export async function runGroup(
  group: BenchGroup,
  { rounds, sampleMs, onProgress }: HarnessOptions,
): Promise<readonly CaseResult[]> {
  await group.gate()
  const iterations = new Map<string, number>()
  for (const candidate of group.cases) iterations.set(candidate.name, await calibrate(candidate, sampleMs))
  const samples = new Map(group.cases.map(({ name }) => [name, [] as number[]]))
  for (let round = 0; round < rounds; round++) {
    onProgress?.(`${group.name}: round ${round + 1} of ${rounds}`)
    for (const candidate of shuffled(group.cases)) {
      const ns = await sample(candidate, iterations.get(candidate.name) ?? 1)
      samples.get(candidate.name)?.push(ns / group.unitsPerRun)
    }
  }
  const floor = samples.get(group.floor) ?? []
  return group.cases.map(({ name }) => summarize(group, name, samples.get(name) ?? [], floor))
}

/** Runs until warm and returns how many runs make one sample. */
async function calibrate(candidate: BenchCase, sampleMs: number): Promise<number> {
  const end = performance.now() + Math.max(200, sampleMs * 4)
  let runs = 0
  const start = performance.now()
  while (performance.now() < end) {
    await candidate.run()
    runs++
  }
  return Math.max(1, Math.round((runs * sampleMs) / (performance.now() - start)))
}

/** Nanoseconds of one run. */
async function sample(candidate: BenchCase, runs: number): Promise<number> {
  collectGarbage()
  const start = process.hrtime.bigint()
  for (let i = 0; i < runs; i++) {
    const result = candidate.run()
    if (result instanceof Promise) await result
  }
  return Number(process.hrtime.bigint() - start) / runs
}

function collectGarbage(): void {
  globalThis.gc?.({ type: 'minor' } as never)
}

function summarize(group: BenchGroup, name: string, values: readonly number[], floor: readonly number[]): CaseResult {
  const { median: ratio, low, high } = medianOf(values.map((value, round) => value / (floor[round] ?? Number.NaN)))
  const goal = group.goals?.[name]
  return {
    group: group.name,
    name,
    unit: group.unit,
    median: quantile(values, 0.5),
    p10: quantile(values, 0.1),
    p90: quantile(values, 0.9),
    min: Math.min(...values),
    ratio,
    ratioLow: low,
    ratioHigh: high,
    ...(goal === undefined ? {} : { goal }),
  }
}

export interface Median {
  readonly median: number
  readonly low: number
  readonly high: number
}

/** The median with its 95 % bootstrap interval. */
export function medianOf(values: readonly number[]): Median {
  const bootstrap = Array.from({ length: 1_000 }, () =>
    quantile(
      values.map(() => pick(values)),
      0.5,
    ),
  )
  return { median: quantile(values, 0.5), low: quantile(bootstrap, 0.025), high: quantile(bootstrap, 0.975) }
}

export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (sorted.length - 1) * q
  const below = sorted[Math.floor(at)] ?? Number.NaN
  const above = sorted[Math.ceil(at)] ?? Number.NaN
  return below + (above - below) * (at - Math.floor(at))
}

function pick(values: readonly number[]): number {
  return values[Math.floor(Math.random() * values.length)] ?? Number.NaN
}

export function shuffled<T>(items: readonly T[]): T[] {
  const out = [...items]
  for (let i = out.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1))
    ;[out[i], out[j]] = [out[j] as T, out[i] as T]
  }
  return out
}
