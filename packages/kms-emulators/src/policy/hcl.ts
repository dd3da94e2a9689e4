/** A block of a Terraform file: `type "label" … { attributes and blocks }`. */
export interface HclBlock {
  readonly type: string
  readonly labels: readonly string[]
  readonly attributes: ReadonlyMap<string, HclExpression>
  readonly blocks: readonly HclBlock[]
}

/** An expression; a template is a string with `${…}` in it, a reference a path of names. */
export type HclExpression =
  | { readonly kind: 'literal'; readonly value: string | number | boolean | null }
  | { readonly kind: 'template'; readonly parts: readonly HclExpression[] }
  | { readonly kind: 'list'; readonly items: readonly HclExpression[] }
  | { readonly kind: 'object'; readonly entries: readonly (readonly [string, HclExpression])[] }
  | { readonly kind: 'reference'; readonly path: readonly string[] }
  | { readonly kind: 'call'; readonly name: string; readonly args: readonly HclExpression[] }

interface Token {
  readonly kind: 'name' | 'number' | 'string' | 'mark' | 'newline' | 'end'
  readonly text: string
  readonly line: number
}

/**
 * Parses the part of Terraform's language that the files in docs/kms use: blocks, attributes, literals, templates, lists,
 * objects, references and calls. No heredocs, operators, loops or conditionals.
 *
 * Strict, so that a slip in those files fails a test: what it does not know is an error.
 * @throws SyntaxError with the line
 * @see https://github.com/hashicorp/hcl/blob/main/hclsyntax/spec.md
 */
export function parseHcl(text: string): readonly HclBlock[] {
  const parser = createParser(tokensOf(text))
  const { attributes, blocks } = parser.body('end')
  if (attributes.size > 0) throw new SyntaxError('an attribute outside of any block')
  return blocks
}

function tokensOf(text: string): readonly Token[] {
  const tokens: Token[] = []
  const pattern =
    /(?<space>[ \t\r]+)|(?<comment>(?:#|\/\/)[^\n]*|\/\*[\s\S]*?\*\/)|(?<newline>\n)|(?<number>-?\d+(?:\.\d+)?)|(?<name>[A-Za-z_][\w-]*)|"(?<string>(?:[^"\\\n$]|\\.|\$(?!\{)|\$\{[^}"\n]*\})*)"|(?<mark>[{}()[\]=,.:])/y
  let line = 1
  while (pattern.lastIndex < text.length) {
    const at = pattern.lastIndex
    const groups = pattern.exec(text)?.groups
    if (groups === undefined)
      throw new SyntaxError(`line ${line}: unexpected ${JSON.stringify(text.slice(at, at + 12))}`)
    for (const kind of ['newline', 'number', 'name', 'string', 'mark'] as const) {
      const found = groups[kind]
      if (found !== undefined) tokens.push({ kind, text: found, line })
    }
    line += text.slice(at, pattern.lastIndex).split('\n').length - 1
  }
  return [...tokens, { kind: 'end', text: '', line }]
}

function createParser(tokens: readonly Token[]) {
  let at = 0
  const peek = (): Token => tokens[at] ?? { kind: 'end', text: '', line: 0 }
  const next = (): Token => {
    const token = peek()
    at++
    return token
  }
  const fail = ({ kind, text, line }: Token, wanted: string) =>
    new SyntaxError(`line ${line}: expected ${wanted}, got ${kind === 'end' ? 'the end' : JSON.stringify(text)}`)
  const expectMark = (text: string) => {
    const token = next()
    if (token.kind !== 'mark' || token.text !== text) throw fail(token, text)
  }
  const isMark = (text: string) => peek().kind === 'mark' && peek().text === text
  const skipNewlines = () => {
    while (peek().kind === 'newline') at++
  }
  const endLine = () => {
    if (peek().kind !== 'newline' && peek().kind !== 'end' && !isMark('}')) throw fail(peek(), 'a new line')
  }

  /** Attributes and blocks up to `}` or the end. */
  function body(until: '}' | 'end'): Pick<HclBlock, 'attributes' | 'blocks'> {
    const attributes = new Map<string, HclExpression>()
    const blocks: HclBlock[] = []
    for (;;) {
      skipNewlines()
      if (until === '}' ? isMark('}') : peek().kind === 'end') break
      const name = next()
      if (name.kind !== 'name') throw fail(name, 'a name')
      if (isMark('=')) {
        at++
        if (attributes.has(name.text)) throw new SyntaxError(`line ${name.line}: ${name.text} is set twice`)
        attributes.set(name.text, expression())
      } else {
        const labels: string[] = []
        while (peek().kind === 'string') labels.push(next().text)
        expectMark('{')
        blocks.push({ type: name.text, labels, ...body('}') })
        expectMark('}')
      }
      endLine()
    }
    return { attributes, blocks }
  }

  function expression(): HclExpression {
    const token = next()
    if (token.kind === 'number') return { kind: 'literal', value: Number(token.text) }
    if (token.kind === 'string') return template(token)
    if (token.kind === 'mark' && token.text === '[') return { kind: 'list', items: sequence(']', expression) }
    if (token.kind === 'mark' && token.text === '{') return { kind: 'object', entries: sequence('}', entry) }
    if (token.kind !== 'name') throw fail(token, 'a value')
    if (token.text === 'true' || token.text === 'false') return { kind: 'literal', value: token.text === 'true' }
    if (token.text === 'null') return { kind: 'literal', value: null }
    if (isMark('(')) {
      at++
      return { kind: 'call', name: token.text, args: sequence(')', expression) }
    }
    const path = [token.text]
    while (isMark('.')) {
      at++
      const part = next()
      if (part.kind !== 'name') throw fail(part, 'a name')
      path.push(part.text)
    }
    return { kind: 'reference', path }
  }

  function entry(): readonly [string, HclExpression] {
    const key = next()
    if (key.kind !== 'name' && key.kind !== 'string') throw fail(key, 'a key')
    if (isMark(':')) at++
    else expectMark('=')
    return [key.text, expression()]
  }

  /** Members with a comma or a new line between; a comma may stand behind the last. */
  function sequence<Member>(end: string, member: () => Member): Member[] {
    const members: Member[] = []
    for (;;) {
      skipNewlines()
      if (isMark(end)) break
      members.push(member())
      const separated = peek().kind === 'newline' || isMark(',')
      skipNewlines()
      if (isMark(',')) at++
      else if (!separated && !isMark(end)) throw fail(peek(), `, or ${end}`)
    }
    at++
    return members
  }

  function template({ text, line }: Token): HclExpression {
    const parts = text.split(/(\$\{[^}]*\})/).filter((part) => part !== '')
    const parsed = parts.map((part): HclExpression => {
      if (!part.startsWith('${')) return { kind: 'literal', value: JSON.parse(`"${part}"`) }
      const inner = createParser(tokensOf(part.slice(2, -1)))
      const value = inner.expression()
      if (!inner.atEnd()) throw new SyntaxError(`line ${line}: more than one value in a template`)
      return value
    })
    const [only] = parsed
    if (only === undefined) return { kind: 'literal', value: '' }
    return parsed.length === 1 && only.kind === 'literal' ? only : { kind: 'template', parts: parsed }
  }

  return { body, expression, atEnd: () => peek().kind === 'end' }
}
