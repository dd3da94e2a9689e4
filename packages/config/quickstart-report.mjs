/**
 * What is wrong with what `npm run quickstart -- --json` wrote to stdout.
 *
 * @returns a sentence; undefined when the report is whole and says what it must
 */
export function problemOf(stdout) {
  let report
  try {
    report = JSON.parse(stdout)
  } catch {
    return `stdout is not JSON: ${stdout.slice(0, 200)}`
  }
  if (typeof report !== 'object' || report === null) return `the report is not an object: ${stdout.slice(0, 200)}`
  const wrong = Object.entries(MUST).filter(([field, holds]) => !holds(report[field], report))
  return wrong.length === 0 ? undefined : wrong.map(([field]) => `${field} is ${report[field]}`).join(', ')
}

const isTrue = (value) => value === true
const isZero = (value) => value === 0
const isPositive = (value) => typeof value === 'number' && value > 0

const MUST = {
  plaintextHits: isZero,
  rowsWritten: isPositive,
  rowsRewrapped: isPositive,
  dataRowsWrittenByCmkMove: isZero,
  foundByEmail: isTrue,
  sameValueDifferentCiphertext: isTrue,
  swapRefused: isTrue,
  revokedTenantRefused: isTrue,
  revokedAfterMs: (value, { revocationBoundMs }) => isPositive(value) && value <= revocationBoundMs,
  revocationBoundMs: isPositive,
  otherTenantReads: isPositive,
  kmsCalls: isPositive,
  seconds: isPositive,
}
