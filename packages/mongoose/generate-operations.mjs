// Writes docs/reference/mongoose-operations.md from the tests: `node packages/mongoose/generate-operations.mjs`.
// A test compares the page with what this would write.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const folder = import.meta.dirname
export const page = path.join(folder, '../../docs/reference/mongoose-operations.md')

const text = String.raw`'((?:[^'\\]|\\.)*)'`
const CALL = new RegExp(
  String.raw`^\s*(protects|refuses)\(\s*${text},\s*${text},\s*(?:\{\s*code:\s*${text},?(?:\s*reason:\s*${text},?)?\s*\})?`,
  'gm',
)

/** Every operation that a test is about: [operation, what happens, code and reason or nothing]. */
export function operations() {
  const files = readdirSync(path.join(folder, 'test'), { recursive: true })
    .map(String)
    .filter((file) => file.endsWith('.test.ts'))
    .sort()
  return files.flatMap((file) => {
    const source = readFileSync(path.join(folder, 'test', file), 'utf8')
    const calls = source.match(/^\s*(protects|refuses)\(/gm)?.length ?? 0
    const found = [...source.matchAll(CALL)].map(([, kind, operation, what, code, reason]) => {
      if (kind === 'refuses' && code === undefined)
        throw new Error(`${file}: '${operation}' has no literal { code, reason }`)
      return {
        operation: plain(operation),
        what: plain(what),
        refusal: code && [code, reason].filter(Boolean).join(' '),
      }
    })
    if (found.length !== calls) throw new Error(`${file}: ${calls - found.length} operations are not plain strings`)
    return found
  })
}

export function render() {
  const rows = operations().sort((a, b) => order(a).localeCompare(order(b)))
  const lines = rows.map(
    ({ operation, what, refusal }) =>
      `| \`${operation}\` | ${what} | ${refusal ? `refused: \`${refusal}\`` : 'protected'} |`,
  )
  return `# What happens to each Mongoose operation

Generated from the tests of \`@fieldseal/mongoose\` by \`packages/mongoose/generate-operations.mjs\`: every line is a test, on the
servers that [test-servers](test-servers.md) lists. An operation that is not here and not refused by name is refused: a method of
the driver's collection that nobody has looked at throws.

| operation | what happens | outcome |
|---|---|---|
${lines.join('\n')}
`
}

const order = ({ operation, what }) => `${operation.toLowerCase()} ${what}`
const plain = (literal) => literal.replaceAll(String.raw`\'`, "'").replaceAll('|', String.raw`\|`)

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(page, render())
