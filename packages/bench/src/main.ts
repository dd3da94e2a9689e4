import 'reflect-metadata'
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { newMongoDatabase, startMongo, startPostgres } from '@fieldseal/servers'
import { rowGroups } from './cases/core-cases.ts'
import { hangingKms, hangingKmsToMarkdown } from './cases/hanging-kms.ts'
import { mongooseBench } from './cases/mongoose-cases.ts'
import { slowKmsBench } from './cases/mongoose-slow-kms.ts'
import { rotationBench, rotationToMarkdown } from './cases/rotation.ts'
import { typeormBench } from './cases/typeorm-cases.ts'
import { runGroup, type CaseResult } from './harness.ts'
import { toMarkdown } from './report.ts'

const { values } = parseArgs({
  options: {
    rounds: { type: 'string' },
    rows: { type: 'string', default: '20000' },
    durable: { type: 'boolean', default: false },
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
const rotated = wanted('rotation') ? await onPostgres((url) => rotationBench(url, rotation), values.durable) : undefined
const beside = wanted('hanging KMS') ? await hangingKms(options.onProgress) : undefined
process.stderr.write('\n')
const sections = [
  `Node ${process.versions.node}, OpenSSL ${process.versions.openssl}, ${options.rounds} rounds\n`,
  toMarkdown(results),
  ...(rotated === undefined ? [] : [rotationToMarkdown(rotated)]),
  ...(beside === undefined ? [] : [hangingKmsToMarkdown(beside)]),
]
process.stdout.write(sections.join('\n'))
if (values.json !== undefined)
  writeFileSync(
    values.json,
    `${JSON.stringify({ node: process.versions.node, rounds: options.rounds, results, rotation: rotated }, null, 2)}\n`,
  )

async function onPostgres<R>(run: (url: string) => Promise<R>, durable = false): Promise<R> {
  const server = await startPostgres({ durable })
  const result = await run(server.url)
  await server.stop()
  return result
}
