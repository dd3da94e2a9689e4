import 'reflect-metadata'
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { newMongoDatabase, startMongo, startPostgres } from '@fieldseal/servers'
import { rowGroups } from './cases/core-cases.ts'
import { hangingKms, hangingKmsToMarkdown } from './cases/hanging-kms.ts'
import { mongooseBench } from './cases/mongoose-cases.ts'
import { slowKmsBench } from './cases/mongoose-slow-kms.ts'
import { type Rotation, rotationBench, rotationToMarkdown } from './cases/rotation.ts'
import { typeormBench } from './cases/typeorm-cases.ts'
import { runGroup, type CaseResult } from './harness.ts'
import { toMarkdown } from './report.ts'

const { values } = parseArgs({
  options: {
    rounds: { type: 'string' },
    rows: { type: 'string', default: '20000' },
    'sample-ms': { type: 'string', default: '40' },
    only: { type: 'string' },
    json: { type: 'string' },
  },
})

const options = {
  rounds: Number(values.rounds ?? 21),
  sampleMs: Number(values['sample-ms']),
  onProgress: (text: string) => process.stderr.write(`\r${text.padEnd(70)}`),
}
if (globalThis.gc === undefined)
  process.stderr.write('run node with --expose-gc: garbage of one case is otherwise collected in another\n')

const results: CaseResult[] = []
const wanted = (name: string) => values.only === undefined || name.includes(values.only)
const groups = [...(await rowGroups(64, 1.1)), ...(await rowGroups(5, 1.25))]
for (const group of groups) if (wanted(group.name)) results.push(...(await runGroup(group, options)))

if (wanted('TypeORM'))
  await onPostgres(async (url) => {
    const bench = await typeormBench(url)
    for (const group of bench.groups)
      results.push(...(await runGroup(group, { ...options, sampleMs: Math.max(60, options.sampleMs) })))
    await bench.close()
  })
if (wanted('Mongoose')) {
  const server = await startMongo()
  for (const makeBench of [mongooseBench, slowKmsBench]) {
    const bench = await makeBench(newMongoDatabase(server.uri).uri)
    for (const group of bench.groups)
      results.push(...(await runGroup(group, { ...options, sampleMs: Math.max(60, options.sampleMs) })))
    await bench.close()
  }
  await server.stop()
}
// One round of it takes as long as a hundred of the others.
const rotation = { ...options, rounds: Number(values.rounds ?? 7), rows: Number(values.rows) }
const rotated: Rotation[] = []
for (const durable of wanted('rotation') ? [true, false] : [])
  await onPostgres(async (url, isOurs) => {
    if (durable || isOurs) rotated.push(await rotationBench(url, rotation))
  }, durable)
const beside = wanted('hanging KMS') ? await hangingKms(options.onProgress) : undefined
process.stderr.write('\n')
const sections = [
  `Node ${process.versions.node}, OpenSSL ${process.versions.openssl}, ${options.rounds} rounds\n`,
  toMarkdown(results),
  ...rotated.map(rotationToMarkdown),
  ...(beside === undefined ? [] : [hangingKmsToMarkdown(beside)]),
]
process.stdout.write(sections.join('\n'))
if (values.json !== undefined)
  writeFileSync(
    values.json,
    `${JSON.stringify({ node: process.versions.node, rounds: options.rounds, results, rotation: rotated }, null, 2)}\n`,
  )

/** @param run hears whether the server was started here: one that a variable names has settings of its own */
async function onPostgres(run: (url: string, isOurs: boolean) => Promise<void>, durable = false): Promise<void> {
  const server = await startPostgres({ durable })
  await run(server.url, server.rung !== 'environment')
  await server.stop()
}
