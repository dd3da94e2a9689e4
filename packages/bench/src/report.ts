import type { CaseResult } from './harness.ts'

/** A Markdown table of the results, one section per group. */
export function toMarkdown(results: readonly CaseResult[]): string {
  const groups = [...new Set(results.map(({ group }) => group))]
  return groups
    .map((group) =>
      section(
        group,
        results.filter((result) => result.group === group),
      ),
    )
    .join('\n')
}

function section(group: string, results: readonly CaseResult[]): string {
  const rows = results.map(({ name, median, p10, p90, ratio, ratioLow, ratioHigh, goal }) => {
    const met =
      goal === undefined
        ? ''
        : ratio <= goal
          ? `≤ ${goal}: met`
          : `≤ ${goal}: missed by ${Math.round((ratio / goal - 1) * 100)} %`
    return `| ${name} | ${format(median)} | ${format(p10)}–${format(p90)} | ${ratio.toFixed(2)} (${ratioLow.toFixed(2)}–${ratioHigh.toFixed(2)}) | ${met} |`
  })
  const unit = results[0]?.unit ?? ''
  return [
    `### ${group}`,
    '',
    `| case | µs per ${unit} | p10–p90 | × floor (95 %) | goal |`,
    '|---|---|---|---|---|',
    ...rows,
    '',
  ].join('\n')
}

function format(ns: number): string {
  const us = ns / 1_000
  return us >= 100 ? us.toFixed(0) : us >= 10 ? us.toFixed(1) : us.toFixed(2)
}
