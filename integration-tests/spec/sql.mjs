// CREATE TABLE and INSERT statements with standard single-quoted literals, as `--keep` of the quickstart writes them.
const TOKEN = /\s+|--[^\n]*|'((?:[^']|'')*)'|"((?:[^"]|"")*)"|([A-Za-z_][A-Za-z0-9_]*|-?[0-9][0-9.eE+-]*)|([(),;])/gy

/** Tables by name, each a list of rows by column: text, bytes (bytea) or null. */
export function readTables(sql) {
  const tables = new Map()
  const statements = splitStatements(tokensOf(sql))
  for (const statement of statements) {
    if (isWord(statement[0], 'CREATE')) create(tables, statement)
    else if (isWord(statement[0], 'INSERT')) insert(tables, statement)
    else throw new SyntaxError(`statement ${statement[0]?.text}`)
  }
  return new Map([...tables].map(([name, { rows }]) => [name, rows]))
}

function tokensOf(sql) {
  const tokens = []
  let end = 0
  for (const [all, literal, quoted, word, mark] of sql.matchAll(TOKEN)) {
    end += all.length
    if (literal !== undefined) tokens.push({ kind: 'literal', text: literal.replaceAll("''", "'") })
    else if (quoted !== undefined) tokens.push({ kind: 'name', text: quoted.replaceAll('""', '"') })
    else if (word !== undefined) tokens.push({ kind: 'word', text: word })
    else if (mark !== undefined) tokens.push({ kind: 'mark', text: mark })
  }
  if (end !== sql.length) throw new SyntaxError(`SQL at ${end}: ${sql.slice(end, end + 20)}`)
  return tokens
}

function splitStatements(tokens) {
  const statements = [[]]
  for (const token of tokens) {
    if (isMark(token, ';')) statements.push([])
    else statements.at(-1).push(token)
  }
  return statements.filter((statement) => statement.length > 0)
}

function isWord(token, word) {
  return token?.kind === 'word' && token.text.toUpperCase() === word
}

function isMark(token, mark) {
  return token?.kind === 'mark' && token.text === mark
}

/** Groups in parentheses, each a list of items between commas. */
function groupsOf(tokens) {
  const groups = []
  let depth = 0
  for (const token of tokens) {
    if (isMark(token, ')')) depth -= 1
    if (depth === 1 && isMark(token, ',')) groups.at(-1).push([])
    else if (depth > 0) groups.at(-1).at(-1).push(token)
    if (isMark(token, '(')) {
      depth += 1
      if (depth === 1) groups.push([[]])
    }
  }
  return groups
}

function create(tables, statement) {
  const [columns] = groupsOf(statement)
  const types = new Map(columns.map(([name, type]) => [name.text, type.text.toLowerCase()]))
  tables.set(statement[2].text, { types, rows: [] })
}

function insert(tables, statement) {
  const { types, rows } = tables.get(statement[2].text)
  const [names, ...values] = groupsOf(statement)
  for (const row of values) {
    if (row.length !== names.length) throw new SyntaxError('another number of values than columns')
    rows.push(Object.fromEntries(names.map(([name], at) => [name.text, valueOf(row[at][0], types.get(name.text))])))
  }
}

function valueOf(token, type) {
  if (isWord(token, 'NULL')) return null
  if (type === 'bytea') {
    if (!/^\\x(?:[0-9a-f]{2})*$/.test(token.text)) throw new SyntaxError('not a bytea')
    return Buffer.from(token.text.slice(2), 'hex')
  }
  return token.text
}
