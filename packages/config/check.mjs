// `npm run check`: everything that CI runs, by the commands that a user would type. Works on any Node that has npm.
// The last line is the sum: each test counts, and so does each further step.
import { capture, run } from './commands.mjs'
import { problemOf } from './quickstart-report.mjs'
import { summaryLine } from './test-summary.mjs'

const total = { passed: 0, failed: 0 }

await step('npm test', async () => {
  const { code, stdout } = await capture('npm', ['test'], { live: true })
  const [, passed, failed] = /^(\d+) passed, (\d+) failed$/.exec(stdout.trimEnd().split('\n').at(-1)) ?? []
  if (passed === undefined) return false
  const counts = { passed: Number(passed), failed: Number(failed) }
  // An exit code that contradicts the numbers is a failure of its own.
  return code !== 0 && counts.failed === 0 ? false : counts
})
await step('platform packages of the lockfile', () =>
  run(process.execPath, ['packages/config/check-lockfile-platforms.mjs']),
)
await step('build', () => run('npm', ['run', 'build']))
await step('npm run quickstart -- --json', async () => {
  const { code, stdout, output } = await capture('npm', ['run', '--silent', 'quickstart', '--', '--json'])
  const problem = code === 0 ? problemOf(stdout) : `exit code ${code}\n${output}`
  if (problem) console.error(`the quickstart: ${problem}`)
  return problem === undefined
})
console.log(summaryLine(total))
process.exitCode = total.failed > 0 ? 1 : 0

/** @param action returns whether it succeeded, or how many tests did */
async function step(name, action) {
  const started = Date.now()
  const result = await action()
  const { passed, failed } = typeof result === 'object' ? result : { passed: result ? 1 : 0, failed: result ? 0 : 1 }
  total.passed += passed
  total.failed += failed
  console.log(`${failed > 0 ? 'FAILED' : 'ok    '} ${name} (${((Date.now() - started) / 1000).toFixed(1)} s)`)
}
