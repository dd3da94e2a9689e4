import type { KeyStatus, Status } from '../verbs/status.ts'
import { stateOf } from './status-text.ts'

/** A status as one HTML file without scripts or links: an auditor can open it offline. */
export function statusHtml(status: Status): string {
  const title = `Fieldseal: ${status.app}${status.tenant === undefined ? '' : `, tenant ${status.tenant}`}`
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>${esc(title)}</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>
body{font:14px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#1b1f24;background:#fff}
table{border-collapse:collapse;margin:.5rem 0 1.5rem}td,th{border-bottom:1px solid #d0d7de;padding:.25rem .6rem;text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums}code{font-size:12px}svg text{font:12px system-ui,sans-serif;fill:#1b1f24}
h2{margin-top:2rem}
</style></head><body>
<h1>${esc(title)}</h1>
<p>As of ${esc(status.at)}. ${status.notes.map(esc).join(' ')}</p>
<h2>Rewrap progress</h2>${progressPlot(status)}
<h2>Rows per key</h2>${rowsPlot(status.keys)}
<h2>Key versions over time</h2>${timePlot(status)}
<h2>Keys</h2>${keyTable(status)}
<h2>Fields</h2>${fieldTable(status)}
<h2>Blind indexes</h2>${indexTable(status)}
</body></html>
`
}

const WIDTH = 900
const LEFT = 260
const ROW = 24
const COLOURS: Readonly<Record<string, string>> = {
  active: '#1a7f37',
  'decrypt-only': '#9a6700',
  retired: '#6e7781',
  destroyed: '#57606a',
}

function progressPlot({ rewrap: { newest, older, exact } }: Status): string {
  const total = newest + older
  if (total === 0) return '<p>No row holds an encrypted value.</p>'
  const done = (newest / total) * WIDTH
  const percent = Math.floor((newest / total) * 1_000) / 10
  return `<svg role="img" aria-label="${percent} % of the rows are under the newest key" width="${WIDTH}" height="52" viewBox="0 0 ${WIDTH} 52">
<rect width="${WIDTH}" height="22" fill="#9a6700"/><rect width="${round(done)}" height="22" fill="#1a7f37"/>
<text x="0" y="42">${percent} % under the newest key: ${newest} of ${total} rows${exact ? '' : ' of the sample'}</text></svg>`
}

function rowsPlot(keys: readonly KeyStatus[]): string {
  const wraps = keys.filter(({ purpose }) => purpose === 'wrap')
  const most = Math.max(1, ...wraps.map(({ rows }) => rows))
  const bars = wraps.map((key, i) => {
    const width = (key.rows / most) * (WIDTH - LEFT - 90)
    return `<text x="0" y="${i * ROW + 16}">${esc(shortName(key))}</text><rect x="${LEFT}" y="${i * ROW + 3}" width="${round(width)}" height="16" fill="${colourOf(key)}"/><text x="${round(LEFT + width + 6)}" y="${i * ROW + 16}">${key.rowsExact ? '' : '≥ '}${key.rows}</text>`
  })
  return plot('rows under each key', wraps.length * ROW, bars)
}

function timePlot({ keys }: Status): string {
  const wraps = keys.filter(({ purpose }) => purpose === 'wrap')
  const oldest = Math.max(1, ...wraps.map(({ ageDays }) => ageDays))
  const spans = wraps.map((key, i) => {
    const from = LEFT + ((oldest - key.ageDays) / oldest) * (WIDTH - LEFT)
    const ends = nextOf(key, wraps)
    const to = ends === undefined ? WIDTH : LEFT + ((oldest - ends.ageDays) / oldest) * (WIDTH - LEFT)
    return `<text x="0" y="${i * ROW + 16}">${esc(shortName(key))}</text><rect x="${round(from)}" y="${i * ROW + 3}" width="${round(Math.max(2, to - from))}" height="16" fill="${colourOf(key)}"><title>${key.ageDays} days old, ${esc(stateOf(key))}</title></rect>`
  })
  return plot(`time in which each version wrapped new values, over ${oldest} days`, wraps.length * ROW, spans)
}

function nextOf(key: KeyStatus, keys: readonly KeyStatus[]): KeyStatus | undefined {
  return keys.find(
    ({ tenant, keyspace, version }) =>
      tenant === key.tenant && keyspace === key.keyspace && version === key.version + 1,
  )
}

function plot(label: string, height: number, shapes: readonly string[]): string {
  if (shapes.length === 0) return '<p>No keys.</p>'
  return `<svg role="img" aria-label="${esc(label)}" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}">${shapes.join('')}</svg>`
}

function shortName({ tenant, keyspace, version }: KeyStatus): string {
  const name = `${tenant} ${keyspace} v${version}`
  return name.length <= 40 ? name : `${name.slice(0, 18)}…${name.slice(-20)}`
}

function colourOf({ state, compromised }: KeyStatus): string {
  return compromised ? '#cf222e' : (COLOURS[state] ?? '#cf222e')
}

function keyTable({ keys, subjects }: Status): string {
  const rows = keys.map((key) => [
    key.tenant,
    key.keyspace,
    key.purpose,
    key.version,
    key.id,
    stateOf(key),
    key.ageDays,
    key.daysLeft ?? '',
    key.purpose === 'index' ? '' : key.rows,
    key.wraps.map(({ provider, uri, keyVersion }) => `${provider} ${uri} ${keyVersion ?? ''}`).join('; '),
  ])
  const heads = [
    'tenant',
    'keyspace',
    'purpose',
    'version',
    'key',
    'state',
    'age, days',
    'days left',
    'rows',
    'wrapped by',
  ]
  const further =
    subjects.keys === 0 ? '' : `<p>And ${subjects.keys} keys of ${subjects.keyspaces} data subjects under them.</p>`
  return html(heads, rows) + further
}

function fieldTable({ models }: Status): string {
  const rows = models.flatMap(({ model, rows: all, sampled, fields }) =>
    fields.map((one) => [model, all, sampled, one.field, one.values, one.nulls, one.plaintext, one.unreadable]),
  )
  return html(['model', 'rows', 'looked at', 'field', 'values', 'null', 'plaintext', 'unreadable'], rows)
}

function indexTable({ models }: Status): string {
  const rows = models.flatMap(({ model, indexes }) =>
    indexes.flatMap(({ index, epochs }) =>
      Object.entries(epochs).map(([epoch, tokens]) => [model, index, epoch, tokens]),
    ),
  )
  return html(['model', 'index', 'epoch', 'tokens'], rows)
}

function html(heads: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const cell = (value: string | number) =>
    typeof value === 'number' ? `<td class="n">${value}</td>` : `<td>${esc(value)}</td>`
  const body = rows.map((row) => `<tr>${row.map(cell).join('')}</tr>`).join('\n')
  return `<table><thead><tr>${heads.map((name) => `<th>${esc(name)}</th>`).join('')}</tr></thead><tbody>\n${body}\n</tbody></table>`
}

function round(value: number): number {
  return Math.round(value * 10) / 10
}

/** Ids come from the database: they are text, never markup. */
function esc(text: string): string {
  return text.replaceAll(
    /[&<>"']|\p{Cc}/gu,
    (char) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' })[char] ?? '?',
  )
}
