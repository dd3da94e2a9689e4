import path from 'node:path'

/**
 * Counts what one vitest run reported.
 *
 * @param report vitest's JSON report; undefined when the run wrote none
 * @param exitCode of the vitest process
 * @returns numbers of tests; a file that could not be loaded and a run that crashed count as failed
 */
export function countTests(report, exitCode) {
  const files = report?.testResults ?? []
  const tests = files.flatMap((file) => file.assertionResults)
  const passed = tests.filter(({ status }) => status === 'passed').length
  const broken = files.filter(
    (file) => file.status === 'failed' && file.assertionResults.every(({ status }) => status !== 'failed'),
  )
  const failed = tests.filter(({ status }) => status === 'failed').length + broken.length
  const notRun = tests.length - passed - tests.filter(({ status }) => status === 'failed').length
  return { passed, failed: failed === 0 && exitCode !== 0 ? 1 : failed, notRun }
}

/** How many tests of each file were not run. @param folder what the paths of the files are shown relative to */
export function notRunPerFile(report, folder) {
  return (report?.testResults ?? []).flatMap(({ name, assertionResults }) => {
    const skipped = assertionResults.filter(({ status }) => status !== 'passed' && status !== 'failed').length
    return skipped === 0 ? [] : [`not run: ${skipped} of ${path.relative(folder, name).split(path.sep).join('/')}`]
  })
}

/** What `@fieldseal/servers` said in the output of a run about the servers that it had, each line once. */
export function serverLines(output) {
  const lines = output.split('\n').flatMap((line) => /^servers: (.+)$/.exec(line)?.[1] ?? [])
  return [...new Set(lines)]
}

/** The last line of `npm test`. */
export function summaryLine({ passed, failed }) {
  return `${passed} passed, ${failed} failed`
}
