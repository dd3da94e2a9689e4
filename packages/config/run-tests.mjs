// `npm test`: installs what the lockfile says, then lint, types and the tests of every package. The last line is
// the sum. `npm test -- core typeorm/read` runs only the tests of the packages named, or the files of theirs named.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { capture, root, run } from './commands.mjs'
import { countTests, notRunPerFile, serverLines, summaryLine } from './test-summary.mjs'

/** Packages tested at the same time; each vitest has its own workers beside. */
const CONCURRENCY = 2

const total = { passed: 0, failed: 0, notRun: 0 }
const only = process.argv.slice(2)
const reports = mkdtempSync(path.join(tmpdir(), 'fieldseal-tests-'))
try {
  await check('install', 'pnpm', ['install', '--frozen-lockfile', '--config.confirmModulesPurge=false'], true)
  if (total.failed === 0) {
    if (only.length === 0) {
      await check('lint', process.execPath, ['packages/config/lint.mjs'])
      await check('types', 'turbo', ['run', 'typecheck', '--output-logs=errors-only'])
    }
    await testAll(testedFolders())
  }
} finally {
  rmSync(reports, { recursive: true, force: true })
}
if (total.notRun > 0) console.log(`${total.notRun} not run`)
console.log(summaryLine(total))
process.exitCode = total.failed > 0 ? 1 : 0

/** A failing check counts as one failure. */
async function check(name, command, args, quiet = false) {
  const started = Date.now()
  const succeeded = await run(command, args, { quiet })
  if (!succeeded) total.failed++
  console.log(`${succeeded ? 'ok    ' : 'FAILED'} ${name} (${seconds(started)})`)
}

function testedFolders() {
  const names = readdirSync(path.join(root, 'packages')).map((name) => path.join('packages', name))
  const folders = [...names, 'integration-tests'].filter((folder) =>
    existsSync(path.join(root, folder, 'vitest.config.ts')),
  )
  const wanted = only.map((name) => name.split('/')[0])
  const unknown = wanted.filter((name) => !folders.some((folder) => path.basename(folder) === name))
  if (unknown.length > 0) throw new Error(`no package with tests is called ${unknown.join(' or ')}`)
  return only.length === 0 ? folders : folders.filter((folder) => wanted.includes(path.basename(folder)))
}

/** What a package's files must have in their path, where the command line named files: `typeorm/read`. */
function filesOf(folder) {
  const prefix = `${path.basename(folder)}/`
  return only.filter((name) => name.startsWith(prefix)).map((name) => `test/${name.slice(prefix.length)}`)
}

async function testAll(folders) {
  const waiting = [...folders]
  const worker = async () => {
    for (let folder = waiting.shift(); folder !== undefined; folder = waiting.shift()) await test(folder)
  }
  await Promise.all(Array.from({ length: CONCURRENCY }, worker))
}

async function test(folder) {
  const started = Date.now()
  const reportFile = path.join(reports, `${path.basename(folder)}.json`)
  const cwd = path.join(root, folder)
  const vitest = path.join(cwd, 'node_modules', 'vitest', 'vitest.mjs')
  const options = [
    'run',
    ...filesOf(folder),
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${reportFile}`,
  ]
  const { code, output } = await capture(process.execPath, [vitest, ...options], { cwd })
  const report = existsSync(reportFile) ? JSON.parse(readFileSync(reportFile, 'utf8')) : undefined
  const counts = countTests(report, code)
  for (const key of Object.keys(total)) total[key] += counts[key]
  if (counts.failed > 0) process.stderr.write(output)
  console.log(`${counts.failed > 0 ? 'FAILED' : 'ok    '} ${folder}: ${summaryLine(counts)} (${seconds(started)})`)
  for (const line of [...serverLines(output), ...notRunPerFile(report, cwd)]) console.log(`         ${line}`)
}

function seconds(since) {
  return `${((Date.now() - since) / 1000).toFixed(1)} s`
}
