import { globSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { ERROR_CODES } from '@fieldseal/core/adapter'
import { expect, it } from 'vitest'

const root = path.join(import.meta.dirname, '../..')
const page = (name: string) => path.join(root, 'docs/reference', name)

/** Heading, source file, interface. */
const SECTIONS: readonly (readonly [string, string, string])[] = [
  ['`createFieldseal(options)`', 'core/src/fieldseal.ts', 'FieldsealOptions'],
  ['`cache`', 'core/src/cache/options.ts', 'KeyCacheOptions'],
  ['`keys`: what it is, or what the registry answers for a tenant', 'core/src/keyring/tenant-keys.ts', 'TenantKeys'],
  ['`withFieldseal(dataSource, options)`', 'typeorm/src/with-fieldseal.ts', 'WithFieldsealOptions'],
  ['`schema.plugin(fieldsealPlugin, options)`', 'mongoose/src/fieldseal-plugin.ts', 'FieldsealPluginOptions'],
  ['Fields, in either ORM', 'core/src/record/options.ts', 'FieldOptions'],
  [
    '`@EncryptedColumn(options)`: those of fields, and',
    'typeorm/src/encrypted-column/encrypted-column.ts',
    'EncryptedColumnOptions',
  ],
  ['`blindIndex`', 'core/src/record/options.ts', 'BlindIndexOptions'],
  ['Models, in either ORM', 'core/src/record/options.ts', 'ModelOptions'],
  ['`compoundIndexes`, by id', 'core/src/record/options.ts', 'CompoundIndexOptions'],
]

interface Option {
  readonly name: string
  readonly isRequired: boolean
  readonly text: string
  readonly defaultsTo: string
}

/** The members of an interface with their docstrings. */
function optionsOf(file: string, name: string): Option[] {
  const source = readFileSync(path.join(root, 'packages', file), 'utf8')
  const body = new RegExp(String.raw`export interface ${name}\b[^{]*\{\n(.*?)\n\}`, 's').exec(source)?.[1]
  if (body === undefined) throw new Error(`${file} has no interface ${name}`)
  const members = [...body.matchAll(/(?:^ {2}\/\*\*((?:(?!\*\/).)*)\*\/\n)?^ {2}readonly (\w+)(\??):/gms)]
  return members.map(([, comment = '', member = '', mark]) => {
    const text = comment.replaceAll(/\s*\n\s*\* ?/g, ' ').trim()
    const [said = '', defaultsTo = ''] = text.split(/ ?@defaultValue /)
    return { name: member, isRequired: mark === '', text: said.trim(), defaultsTo: defaultsTo.trim() }
  })
}

const cell = (text: string) => text.replaceAll('|', String.raw`\|`)
const table = (head: readonly string[], rows: readonly (readonly string[])[]) =>
  [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.map(cell).join(' | ')} |`).join('\n')

it('the page of options lists each of them, its default and its meaning, as the sources have them', async () => {
  const sections = SECTIONS.map(([heading, file, name]) => {
    const rows = optionsOf(file, name).map(({ name: option, isRequired, text, defaultsTo }) => [
      `\`${option}\``,
      isRequired ? 'required' : defaultsTo === '' ? '–' : defaultsTo,
      text,
    ])
    expect(rows.length, name).toBeGreaterThan(1)
    return `## ${heading}\n\n${table(['option', 'default', ''], rows)}\n`
  })
  const text = `# Options

Made from the docstrings of the sources by \`integration-tests/readme/reference.test.ts\`, which compares. Durations are milliseconds.
An unknown option is an error at start-up, \`ERR_CONFIG_INVALID\`.

${sections.join('\n')}`
  await expect(text).toMatchFileSnapshot(page('options.md'))
})

it('the page of errors lists every code with what a caller can do about it', async () => {
  const rows = Object.entries(ERROR_CODES).map(([code, { kind, summary }]) => [`\`${code}\``, `\`${kind}\``, summary])
  const text = `# Errors

Made from the table of codes by \`integration-tests/readme/reference.test.ts\`, which compares. Every error of Fieldseal is a
\`FieldsealError\`: \`code\` says what, \`kind\` what a caller can do, \`details\` where (model, field, tenant), why (\`reason\`) and what to
do instead (\`hint\`). It never holds a value, a key or a query parameter. \`isFieldsealError(error)\` tells it from others, also across
two copies of the package.

| \`kind\` | what a caller can do |
|---|---|
| \`unavailable\` | try again later: somebody did not answer |
| \`denied\` | nothing until whoever denied allows it again: the customer, the key store, the registry |
| \`erased\` | nothing: the data is gone for good |
| \`corrupt\` | look into it: what is stored is not what was written |
| \`misuse\` | correct the program or its configuration |
| \`refused\` | do it another way: this one cannot be protected or answered |

${table(['code', 'kind', ''], rows)}
`
  await expect(text).toMatchFileSnapshot(page('errors.md'))
})

it('every code of an error stands in a test', () => {
  const tests = globSync(['packages/*/test/**/*.ts', 'integration-tests/**/*.test.ts'], {
    cwd: root,
    exclude: (name) => name.includes('node_modules') || name.endsWith('reference.test.ts'),
  })
  const texts = tests.map((file) => readFileSync(path.join(root, file), 'utf8')).join('\n')
  expect(tests.length).toBeGreaterThan(100)
  expect(Object.keys(ERROR_CODES).filter((code) => !new RegExp(String.raw`\b${code}\b`).test(texts))).toEqual([])
})
