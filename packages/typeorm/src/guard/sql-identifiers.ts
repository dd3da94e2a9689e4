/** One name in SQL, possibly qualified: `p.email` → `['p', 'email']`. */
export interface SqlIdentifier {
  readonly names: readonly string[]
  /** Followed by `IS NULL` or `IS NOT NULL`. */
  readonly testedForNull: boolean
  /** Followed by `(`. */
  readonly called: boolean
}

const NAME = String.raw`"(?:[^"]|"")*"|[\p{L}_][\p{L}\p{N}_$]*`
const STRING = String.raw`[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|\$([\p{L}_]?[\p{L}\p{N}_]*)\$[\s\S]*?\$\1\$`
// Written so that it cannot be made longer than the comment is: a gap is matched with backtracking.
const COMMENT = String.raw`--[^\n]*|\/\*(?:(?!\*\/)[\s\S])*\*\/`
const GAP = String.raw`(?:\s|${COMMENT})*`
// A cast's type (::text), a numbered parameter and a number may look like names and are none.
const SKIPPED = String.raw`::\s*(?:${NAME})|\$\d+|\d+(?:\.\d*)?(?:e[+-]?\d+)?`
const PARAMETER = String.raw`:(?:\.\.\.)?(?<parameter>[A-Za-z0-9_.]+)`
const TOKEN = new RegExp(
  `${COMMENT}|${STRING}|${SKIPPED}|${PARAMETER}|(?<chain>(?:${NAME})(?:${GAP}\\.${GAP}(?:${NAME}|\\*))*)(?<call>${GAP}\\()?(?<isNull>${GAP}is${GAP}(?:not${GAP})?null\\b)?`,
  'giu',
)
const PART = new RegExp(`${COMMENT}|${NAME}|\\*`, 'gu')

/**
 * The identifiers of an SQL fragment, in order, without literals, comments, parameters and casts. Keywords count as
 * names: the caller knows which names matter.
 *
 * Not a parser: it must never miss a name, and may report one that is none. `U&"…"` hides names behind escapes and is
 * reported as the name `U&`.
 *
 * @param isParameter tells whether `:name` is a parameter; otherwise it is read as a name (an array slice)
 */
export function identifiersIn(sql: string, isParameter: (name: string) => boolean = () => false): SqlIdentifier[] {
  const found: SqlIdentifier[] = []
  const add = (chain: string, isNull: boolean, called: boolean) => {
    const parts = chain.match(PART)?.filter((part) => !part.startsWith('--') && !part.startsWith('/*')) ?? []
    const names = parts.map((part) => (part.startsWith('"') ? part.slice(1, -1).replaceAll('""', '"') : part))
    found.push({ names, testedForNull: isNull, called })
  }
  if (/\bu&["']/i.test(sql)) found.push({ names: ['U&'], testedForNull: false, called: false })
  for (const { groups = {} } of sql.matchAll(TOKEN)) {
    const { chain, parameter, isNull, call } = groups
    if (chain !== undefined) add(chain, isNull !== undefined, call !== undefined)
    else if (parameter !== undefined && !isParameter(parameter)) add(parameter, false, false)
  }
  return found
}
