/** As far as it is watched: core's cipher, and what adapters hand to it. */
interface Cipher {
  seal(rows: readonly SealedRow[], ...rest: unknown[]): unknown
  tokens(terms: readonly Term[], ...rest: unknown[]): unknown
}
interface FieldOnItsWay {
  readonly state: string
}
interface SealedRow {
  readonly cells: readonly { readonly field: FieldOnItsWay; readonly value: unknown }[]
}
interface Term {
  readonly index: { readonly fields: readonly FieldOnItsWay[] }
  readonly values: readonly unknown[]
}

const SHORTEST = 8
/** Searching takes time for each; a test that writes thousands would be searched for all day. */
const MOST = 40

/**
 * The texts that a Fieldseal seals or looks for from now on, for tests that search what leaves the process: nobody has to
 * remember to name them. Reaches behind the public surface, so it must run before an adapter attaches.
 *
 * @returns a set that grows, up to 40 texts of at least 8 characters
 */
export function sealedTexts(fieldseal: object): ReadonlySet<string> {
  const texts = new Set<string>()
  const internals = Reflect.get(fieldseal, Symbol.for('@fieldseal/core:internals')) as { cipher: Cipher }
  const { cipher } = internals
  const note = (value: unknown) => {
    if (typeof value === 'string' && value.length >= SHORTEST && texts.size < MOST) texts.add(value)
  }
  internals.cipher = {
    ...cipher,
    seal(rows, ...rest) {
      for (const { cells } of rows) for (const { field, value } of cells) if (field.state === 'encrypted') note(value)
      return cipher.seal(rows, ...rest)
    },
    tokens(terms, ...rest) {
      for (const { index, values } of terms) if (index.fields[0]?.state === 'encrypted') values.forEach(note)
      return cipher.tokens(terms, ...rest)
    },
  }
  return texts
}
