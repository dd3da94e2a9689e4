import { describe, expect, it } from 'vitest'
import { NORMALIZERS } from '../../src/blind-index/normalize.ts'
import { assertContext, contextBytes } from '../../src/context/encryption-context.ts'
import { checkedKeyspace } from '../../src/context/keyspace.ts'
import { checkedTenant } from '../../src/context/tenant-id.ts'
import { isFieldsealError } from '../../src/errors/fieldseal-error.ts'
import { rowIdOf } from '../../src/record/row-id.ts'
import type { ContextVector, NameVector, NormalizerVector, RowIdVector } from './name-vectors.ts'
import { fromAsJson } from './name-vectors.ts'
import { hex, readVectors, type VectorTest } from './vector-file.ts'

interface Group {
  readonly type: string
  readonly tests: readonly VectorTest[]
}
const names = readVectors<Group>('contexts.json')
const testsOf = <T extends VectorTest>(type: string) =>
  (names.find((group) => group.type === type)?.tests ?? []) as readonly T[] // by the name of the group

function outcome(run: () => unknown): unknown {
  try {
    return run()
  } catch (error) {
    if (isFieldsealError(error)) return error.code
    throw error
  }
}

describe('names', () => {
  it('gives contexts the bytes they name and refuses what breaks a limit', () => {
    const tests = testsOf<ContextVector>('contexts')
    expect(tests.length).toBeGreaterThan(10)
    for (const { comment, context, contextBytes: bytes, code } of tests) {
      const refused = outcome(() => assertContext(context))
      if (comment.startsWith('what kms-local')) continue // of its own making, beyond core's limits
      expect(refused, comment).toBe(code)
      if (code === undefined) expect(hex(contextBytes(context)), comment).toBe(bytes)
    }
  })

  it.each([
    ['tenants', checkedTenant, ['ERR_ARGUMENT_INVALID', 'ERR_TENANT_MISSING']],
    ['keyspaces', (name: unknown) => checkedKeyspace(name as string), ['ERR_ARGUMENT_INVALID']],
  ] as const)('takes %s as they are and refuses those that are none', (type, check, codes) => {
    const tests = testsOf<NameVector>(type)
    expect(tests.length).toBeGreaterThan(10)
    for (const vector of tests) {
      const name = fromAsJson(vector)
      const got = outcome(() => check(name))
      if (vector.result === 'valid') expect(got, vector.comment).toBe(name)
      else expect(codes, vector.comment).toContain(got)
    }
  })
})

it('gives every key its row id, and none to a key without canonical form', () => {
  const [group] = readVectors<{ readonly tests: readonly RowIdVector[] }>('row-ids.json')
  expect(group?.tests.length).toBeGreaterThan(30)
  for (const { columns, rowId, comment } of group?.tests ?? []) {
    const sorted = [...columns].sort((a, b) => Buffer.compare(Buffer.from(a.field), Buffer.from(b.field)))
    const made = rowIdOf(sorted.map((column) => ({ kind: column.kind, value: fromAsJson(column) })))
    expect(made && hex(made), comment).toBe(rowId)
  }
})

it('normalises every text to what it names and refuses the others', () => {
  const groups = readVectors<{ readonly tests: readonly NormalizerVector[] }>('normalizers.json')
  const tests = groups.flatMap((group) => group.tests)
  expect(new Set(tests.map(({ normaliser }) => normaliser)).size).toBe(Object.keys(NORMALIZERS).length)
  for (const vector of tests) {
    const [id = ''] = vector.normaliser.split('@')
    const normalizer = Object.values(NORMALIZERS).find((one) => one.id === id)
    const got = outcome(() => normalizer?.normalize(String(fromAsJson(vector))))
    expect(got, vector.comment).toBe(vector.result === 'valid' ? vector.normalised : 'ERR_VALUE_INVALID')
  }
})
