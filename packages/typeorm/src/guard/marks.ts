// What we put into a condition is fenced by comments, so that the guard can tell it from what the application wrote.
const OPEN = '/*fieldseal[*/'
const CLOSE = '/*]fieldseal*/'
const MARKED = /\/\*fieldseal\[\*\/[\s\S]*?\/\*\]fieldseal\*\//g

export function marked(sql: string): string {
  return OPEN + sql + CLOSE
}

/** The SQL without what is ours. */
export function withoutMarked(sql: string): string {
  return sql.includes(OPEN) ? sql.replace(MARKED, '1=1') : sql
}

/** The SQL as it is sent. */
export function withoutMarks(sql: string): string {
  return sql.includes(OPEN) ? sql.replaceAll(OPEN, '').replaceAll(CLOSE, '') : sql
}
