/** Looks for known plaintexts in bytes that should hold none of them: as text, hex, base64 at every alignment, UTF-16. */
export function countHits(haystack: Buffer, plaintexts: readonly string[]): number {
  const text = haystack.toString('latin1')
  const lower = text.toLowerCase()
  return plaintexts.filter((plaintext) => {
    const bytes = Buffer.from(plaintext, 'utf8')
    const exact = [
      bytes.toString('latin1'),
      Buffer.from(plaintext, 'utf16le').toString('latin1'),
      ...base64Forms(bytes),
    ]
    return exact.some((form) => text.includes(form)) || lower.includes(bytes.toString('hex'))
  }).length
}

/** The characters that stand in a base64 text wherever the bytes begin in it. */
function base64Forms(bytes: Buffer): string[] {
  const forms = [0, 1, 2].map((shift) => {
    const shifted = Buffer.concat([Buffer.alloc(shift), bytes])
      .toString('base64')
      .replace(/=+$/, '')
    // Characters that also depend on the bytes before and behind are left out.
    return shifted.slice(Math.ceil((shift * 8) / 6), Math.floor(((shift + bytes.length) * 8) / 6))
  })
  return [...forms, ...forms.map((form) => form.replaceAll('+', '-').replaceAll('/', '_'))]
}
