// `npm run check`: everything that CI runs, by the commands that a user would type. Works on any Node that has npm.
// The last line is the sum: each test counts, and so does each further step.
import { capture, run } from './commands.mjs'
import { problemOf } from './quickstart-report.mjs'
import { summaryLine } from './test-summary.mjs'

const total = { passed: 0, failed: 0 }

await step('npm test', async () => {
  const { code, stdout } = await capture('npm', ['test'], { live: true })
  const [, passed, failed] = /(\d+) passed, (\d+) failed\s*$/.exec(stdout) ?? []
  if (passed === undefined) return false
  total.passed += Number(passed)
  total.failed += Number(failed)
  return (code === 0) === (Number(failed) === 0)
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

async function step(name, action) {
  const started = Date.now()
  const succeeded = await action()
  total[succeeded ? 'passed' : 'failed']++
  console.log(`${succeeded ? 'ok    ' : 'FAILED'} ${name} (${((Date.now() - started) / 1000).toFixed(1)} s)`)
}
