import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { type HclBlock, type HclExpression, parseHcl } from './hcl.ts'

export type TerraformValue =
  | string
  | number
  | boolean
  | null
  | readonly TerraformValue[]
  | { readonly [key: string]: TerraformValue }

/** A folder of Terraform files, read without Terraform. */
export interface TerraformModule {
  readonly blocks: readonly HclBlock[]
  /** The blocks of one type with these labels, e.g. `resource "aws_kms_key" "fieldseal"`. */
  find(type: string, ...labels: readonly string[]): readonly HclBlock[]
  /** Every reference that names nothing in this folder, as text; every variable that nobody uses. */
  loose(): readonly string[]
  /**
   * The value of an expression. `attributes` are what a provider would compute: `aws_iam_role.fieldseal.arn`. A
   * `jsonencode` stays a structure. @throws Error for an unknown reference or function
   */
  evaluate(expression: HclExpression, given: TerraformInputs): TerraformValue
}

export interface TerraformInputs {
  readonly variables: Readonly<Record<string, TerraformValue>>
  readonly attributes?: Readonly<Record<string, TerraformValue>>
}

/** @throws SyntaxError with file and line */
export function readTerraform(folder: string): TerraformModule {
  const files = readdirSync(folder).filter((name) => name.endsWith('.tf'))
  const blocks = files.flatMap((name) => {
    try {
      return parseHcl(readFileSync(path.join(folder, name), 'utf8'))
    } catch (error) {
      throw new SyntaxError(`${name}: ${error instanceof Error ? error.message : 'unreadable'}`)
    }
  })
  const find: TerraformModule['find'] = (type, ...labels) =>
    blocks.filter((block) => block.type === type && labels.every((label, i) => block.labels[i] === label))
  const local = (name: string) =>
    find('locals')
      .map(({ attributes }) => attributes.get(name))
      .find((value) => value !== undefined)

  function isDeclared([head = '', second = '', third = '']: readonly string[]): boolean {
    if (head === 'var') return find('variable', second).length === 1
    if (head === 'local') return local(second) !== undefined
    if (head === 'data') return find('data', second, third).length === 1
    return find('resource', head, second).length === 1
  }

  function evaluate(expression: HclExpression, given: TerraformInputs): TerraformValue {
    const inner = (one: HclExpression) => evaluate(one, given)
    switch (expression.kind) {
      case 'literal':
        return expression.value
      case 'template':
        return expression.parts.map((part) => textOf(inner(part))).join('')
      case 'list':
        return expression.items.map(inner)
      case 'object':
        return Object.fromEntries(expression.entries.map(([key, value]) => [key, inner(value)]))
      case 'call': {
        const args = expression.args.map(inner)
        if (expression.name === 'jsonencode' && args.length === 1) return args[0] ?? null
        if (expression.name === 'concat') return args.flatMap((list) => (Array.isArray(list) ? list : [list]))
        throw new Error(`the function ${expression.name} is not known`)
      }
      case 'reference': {
        const [head, name = ''] = expression.path
        const fallback = head === 'var' ? find('variable', name)[0]?.attributes.get('default') : undefined
        const value =
          head === 'var'
            ? (given.variables[name] ?? (fallback === undefined ? undefined : inner(fallback)))
            : head === 'local'
              ? inner(local(name) ?? { kind: 'reference', path: ['undeclared'] })
              : given.attributes?.[expression.path.join('.')]
        if (value === undefined) throw new Error(`${expression.path.join('.')} has no value`)
        return value
      }
    }
  }

  return {
    blocks,
    find,
    evaluate,
    loose() {
      const used = blocks.flatMap(referencesIn)
      const unknown = used.filter((one) => !isDeclared(one)).map((one) => one.join('.'))
      const unused = find('variable').flatMap(({ labels: [name = ''] }) =>
        used.some(([head, second]) => head === 'var' && second === name) ? [] : [`var.${name} is not used`],
      )
      return [...unknown, ...unused]
    },
  }
}

/** @throws Error for what Terraform would not put into a string */
function textOf(value: TerraformValue): string {
  if (typeof value === 'object') throw new Error('a list or an object in a template')
  return String(value)
}

/** References, but for the types of variables and the names in `ignore_changes`, which are keywords. */
function referencesIn({ type, attributes, blocks }: HclBlock): readonly (readonly string[])[] {
  const own = [...attributes]
    .filter(([name]) => !(type === 'variable' && name === 'type') && name !== 'ignore_changes')
    .flatMap(([, value]) => referencesOf(value))
  return [...own, ...blocks.flatMap(referencesIn)]
}

function referencesOf(expression: HclExpression): readonly (readonly string[])[] {
  switch (expression.kind) {
    case 'literal':
      return []
    case 'template':
      return expression.parts.flatMap(referencesOf)
    case 'list':
      return expression.items.flatMap(referencesOf)
    case 'object':
      return expression.entries.flatMap(([, value]) => referencesOf(value))
    case 'call':
      return expression.args.flatMap(referencesOf)
    case 'reference':
      return [expression.path]
  }
}
