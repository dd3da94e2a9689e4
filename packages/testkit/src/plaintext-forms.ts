/** A way in which a plaintext may stand in bytes. */
export interface PlaintextForm {
  readonly name: string
  readonly needle: string
  /** Compared without case. */
  readonly anyCase?: boolean
}

const SHORTEST_BASE64 = 4

/** All forms of a plaintext that the oracle looks for, as latin1 text: one character per byte. */
export function plaintextForms(plaintext: string): readonly PlaintextForm[] {
  const bytes = Buffer.from(plaintext, 'utf8')
  const utf16 = Buffer.from(plaintext, 'utf16le')
  const json = JSON.stringify(plaintext).slice(1, -1)
  return [
    { name: 'text', needle: bytes.toString('latin1') },
    ...(json === plaintext ? [] : [{ name: 'json', needle: Buffer.from(json, 'utf8').toString('latin1') }]),
    { name: 'hex', needle: bytes.toString('hex'), anyCase: true },
    { name: 'utf-16le', needle: utf16.toString('latin1') },
    { name: 'utf-16be', needle: Buffer.from(utf16).swap16().toString('latin1') },
    { name: 'byte list', needle: [...bytes].join(',') },
    ...base64Forms('base64', bytes),
    ...base64Forms('base64 of utf-16le', utf16),
  ]
}

/** The characters that stand in a base64 or base64url text wherever the bytes begin in it. */
function base64Forms(name: string, bytes: Buffer): PlaintextForm[] {
  return [0, 1, 2].flatMap((shift) => {
    const text = Buffer.concat([Buffer.alloc(shift), bytes]).toString('base64')
    // Characters that depend on the bytes before and behind are left out.
    const needle = text.slice(Math.ceil((shift * 8) / 6), Math.floor(((shift + bytes.length) * 8) / 6))
    if (needle.length < SHORTEST_BASE64) return []
    const url = needle.replaceAll('+', '-').replaceAll('/', '_')
    return url === needle
      ? [{ name, needle }]
      : [
          { name, needle },
          { name: `${name}url`, needle: url },
        ]
  })
}
