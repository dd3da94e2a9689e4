import { describe, expect, it } from 'vitest'
import { awsPolicy } from '../src/index.ts'
import { parseHcl } from '../src/policy/hcl.ts'

describe('parseHcl', () => {
  it('reads blocks, labels, templates, lists, objects, references and calls', () => {
    const [block] = parseHcl(`
      # a comment
      resource "aws_kms_key" "one" { // another
        name = "key of \${var.tenant}, \\"quoted\\""
        list = ["a", 2, true,]
        policy = jsonencode({
          Version = "1"
          "with space" : [local.x]
        })
        lifecycle { prevent_destroy = true }
      }`)
    expect(block).toMatchObject({ type: 'resource', labels: ['aws_kms_key', 'one'] })
    expect(block?.attributes.get('name')).toMatchObject({
      kind: 'template',
      parts: [{ value: 'key of ' }, { path: ['var', 'tenant'] }, { value: ', "quoted"' }],
    })
    expect(block?.attributes.get('list')).toMatchObject({ items: [{ value: 'a' }, { value: 2 }, { value: true }] })
    expect(block?.attributes.get('policy')).toMatchObject({
      name: 'jsonencode',
      args: [
        {
          entries: [
            ['Version', { value: '1' }],
            ['with space', { kind: 'list' }],
          ],
        },
      ],
    })
    expect(block?.blocks[0]?.attributes.get('prevent_destroy')).toEqual({ kind: 'literal', value: true })
  })

  it('refuses what it does not know, with the line', () => {
    const bad = [
      'a = 1',
      'x {',
      'x {\n a = \n}',
      'x {\n a = 1 b = 2\n}',
      'x { a = "open\n }',
      'x {\n a = 1\n a = 2\n}',
      'x { a = [1 2] }',
      'x { a = b ? 1 : 2 }',
      'x { a = <<EOT\n}',
      '}',
      'x { a = { b } }',
    ]
    for (const text of bad) expect(() => parseHcl(text), text).toThrow(SyntaxError)
    expect(() => parseHcl('x {\n  a = @\n}')).toThrow('line 2')
  })
})

describe('awsPolicy', () => {
  const statement = (more: object) => ({
    Version: '2012-10-17',
    Statement: [{ Effect: 'Allow', Principal: { AWS: 'a' }, Action: 'kms:Decrypt', ...more }],
  })
  const call = { operation: 'Decrypt', principal: 'a', key: 'k', context: { tenant: '7', kek: '1' } }

  it('allows what a statement allows, and nothing else', () => {
    const policy = awsPolicy(statement({}))
    expect(policy(call)).toBe('allow')
    expect(policy({ ...call, principal: 'b' })).toBe('deny')
    expect(policy({ ...call, operation: 'Encrypt' })).toBe('deny')
  })

  it('lets a deny beat all, and takes a missing fact for unequal', () => {
    const { Statement } = statement({})
    const deny = {
      Effect: 'Deny',
      Principal: { AWS: '*' },
      Action: ['kms:Decrypt'],
      Condition: { StringNotEquals: { 'kms:EncryptionContext:tenant': '7' } },
    }
    const policy = awsPolicy({ Version: '2012-10-17', Statement: [...Statement, deny] })
    expect(policy(call)).toBe('allow')
    expect(policy({ ...call, context: { tenant: '8' } })).toBe('deny')
    expect(policy({ ...call, context: {} })).toBe('deny')
  })

  it('compares names of contexts, times, ages and numbers', () => {
    const decide = (condition: object, facts = {}) => awsPolicy(statement({ Condition: condition }), () => facts)(call)
    const keys = (...names: string[]) => ({ 'ForAllValues:StringEquals': { 'kms:EncryptionContextKeys': names } })
    expect([decide(keys('tenant', 'kek')), decide(keys('tenant'))]).toEqual(['allow', 'deny'])
    const age = { NumericLessThan: { 'aws:MultiFactorAuthAge': '900' } }
    expect([
      decide(age, { 'aws:MultiFactorAuthAge': '899' }),
      decide(age, { 'aws:MultiFactorAuthAge': '900' }),
      decide(age),
    ]).toEqual(['allow', 'deny', 'deny'])
    const until = { DateLessThan: { 'aws:CurrentTime': '2026-01-01T00:00:00Z' } }
    expect(decide(until, { 'aws:CurrentTime': '2025-12-31T23:59:59Z' })).toBe('allow')
    expect(() => decide({ StringLike: { x: 'y' } }, { x: 'y' })).toThrow('StringLike')
    expect(() => awsPolicy({ Version: '2012-10-17', Statement: [{ Effect: 'Allow' }] })).toThrow('lacks')
  })
})
