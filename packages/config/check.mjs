// `npm run check`: everything that CI runs, by the commands that a user would type. Works on any Node that has npm.
// With `--docker-host unix:///…`, some suites run once more against containers of images that are built for it.
// The last line is the sum: each test counts, and so does each further step.
import path from 'node:path'
import { parseArgs } from 'node:util'
import { capture, run } from './commands.mjs'
import { problemOf } from './quickstart-report.mjs'
import { summaryLine } from './test-summary.mjs'

const total = { passed: 0, failed: 0 }

/** A suite of each server, and the one that starts servers; `typeorm/write` are the files below it named so. */
const IN_CONTAINERS = ['servers', 'typeorm/write', 'mongoose/transactions']

const { values } = parseArgs({ options: { 'docker-host': { type: 'string' } } })
const dockerHost = values['docker-host']

await step('npm test', () => test())
await step('platform packages of the lockfile', () =>
  run(process.execPath, ['packages/config/check-lockfile-platforms.mjs']),
)
await step('build', () => run('npm', ['run', 'build']))
for (const options of [['--json'], ['--mongoose', '--json'], ['--kms', 'aws', '--json']]) {
  await step(`npm run quickstart -- ${options.join(' ')}`, async () => {
    const { code, stdout, output } = await capture('npm', ['run', '--silent', 'quickstart', '--', ...options])
    const problem = code === 0 ? problemOf(stdout) : `exit code ${code}\n${output}`
    if (problem) console.error(`the quickstart: ${problem}`)
    return problem === undefined
  })
}
if (dockerHost !== undefined) await step(`npm test -- ${IN_CONTAINERS.join(' ')}, in containers`, testInContainers)
console.log(summaryLine(total))
process.exitCode = total.failed > 0 ? 1 : 0

/** Runs `npm test`. @returns what it counted; false when it broke off */
async function test(names = [], env = process.env) {
  const { code, stdout } = await capture('npm', ['test', '--', ...names], { env, live: true })
  const [, passed, failed] = /^(\d+) passed, (\d+) failed$/.exec(stdout.trimEnd().split('\n').at(-1)) ?? []
  if (passed === undefined) return false
  const counts = { passed: Number(passed), failed: Number(failed) }
  // An exit code that contradicts the numbers is a failure of its own.
  return code !== 0 && counts.failed === 0 ? false : counts
}

async function testInContainers() {
  const env = { ...process.env, DOCKER_HOST: dockerHost, SERVERS_FROM: 'testcontainers' }
  // The image of the container that cleans up after a killed run would have to be pulled.
  env.TESTCONTAINERS_RYUK_DISABLED = 'true'
  const withToolchain = path.join(import.meta.dirname, 'with-toolchain.mjs')
  const build = [withToolchain, 'node', 'packages/servers/images/build.ts']
  const { code, stdout } = await capture(process.execPath, build, { env, live: true })
  if (code !== 0) return false
  for (const [, name, image] of stdout.matchAll(/^(PG_IMAGE|MONGO_IMAGE)=(.+)$/gm)) env[name] = image
  return test(IN_CONTAINERS, env)
}

/** @param action returns whether it succeeded, or how many tests did */
async function step(name, action) {
  const started = Date.now()
  const result = await action()
  const { passed, failed } = typeof result === 'object' ? result : { passed: result ? 1 : 0, failed: result ? 0 : 1 }
  total.passed += passed
  total.failed += failed
  console.log(`${failed > 0 ? 'FAILED' : 'ok    '} ${name} (${((Date.now() - started) / 1000).toFixed(1)} s)`)
}
