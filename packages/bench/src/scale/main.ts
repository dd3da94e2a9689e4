/** What rotation takes with many rows: `pnpm --filter @fieldseal/bench scale --rows 1000000 --documents 300000`. */
import 'reflect-metadata'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { documentParts } from './document-parts.ts'
import { moveToMarkdown } from './move-scale.ts'
import { rowParts } from './row-parts.ts'
import { verbsToMarkdown } from './verb-scale.ts'

const { values } = parseArgs({
  options: {
    rows: { type: 'string', default: '1000000' },
    documents: { type: 'string', default: '300000' },
    rounds: { type: 'string', default: '5' },
    only: { type: 'string' },
    json: { type: 'string' },
  },
})

const PARTS = ['rewrap', 'backfill', 'move', 'documents']
if (values.only !== undefined && !PARTS.includes(values.only)) {
  process.stderr.write(`--only takes ${PARTS.join(', ')}\n`)
  process.exit(2)
}
const folder = mkdtempSync(path.join(tmpdir(), 'fieldseal-scale-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
const wanted = (part: string) => values.only === undefined || values.only === part
const options = {
  rounds: Number(values.rounds),
  wanted,
  onProgress: (text: string) => process.stderr.write(`\r${text.padEnd(70)}`),
}
const rows = ['rewrap', 'backfill', 'move'].some(wanted)
  ? await rowParts({ ...options, rows: Number(values.rows), keyFile: path.join(folder, 'rows.key') })
  : undefined
const documents = wanted('documents')
  ? await documentParts({ ...options, rows: Number(values.documents), keyFile: path.join(folder, 'documents.key') })
  : undefined
process.stderr.write('\n')

const servers = [rows, documents].flatMap((parts) => parts?.server ?? [])
const verbs = [...(rows?.verbs ?? []), ...(documents?.verbs ?? [])]
const sections = [
  `Node ${process.versions.node}; ${servers.join('; ')}. Medians, with 95 % intervals where there were several rounds.\n`,
  ...(verbs.length > 0 ? [verbsToMarkdown(verbs)] : []),
  ...(rows?.move === undefined ? [] : [moveToMarkdown(rows.move)]),
]
process.stdout.write(sections.join('\n'))
if (values.json !== undefined)
  writeFileSync(
    values.json,
    `${JSON.stringify({ node: process.versions.node, servers, verbs, move: rows?.move }, null, 2)}\n`,
  )
