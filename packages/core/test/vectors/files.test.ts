import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { expect, it } from 'vitest'
import { vectorFiles } from './files.ts'
import { VECTORS } from './vector-file.ts'

it('makes the very files that stand in docs/spec/vectors, and no file stands there besides', () => {
  const made = vectorFiles()
  expect(readdirSync(VECTORS).sort()).toEqual([...made.keys()].sort())
  for (const [name, text] of made)
    expect(readFileSync(path.join(VECTORS, name), 'utf8') === text, `${name}: run test/vectors/generate.ts`).toBe(true)
})

it('makes the same files every time', () => {
  expect(vectorFiles()).toEqual(vectorFiles())
})

it('numbers, counts and explains every test', () => {
  for (const [name, text] of vectorFiles()) {
    const file = JSON.parse(text) as {
      numberOfTests: number
      notes: Record<string, string>
      testGroups: { tests: { tcId: number; flags: string[]; result: string; reason?: string }[] }[]
    }
    const tests = file.testGroups.flatMap((group) => group.tests)
    expect(
      tests.map(({ tcId }) => tcId),
      name,
    ).toEqual(Array.from({ length: file.numberOfTests }, (_, i) => i + 1))
    for (const { flags, result, reason } of tests) {
      expect(flags.every((flag) => file.notes[flag] !== undefined)).toBe(true)
      expect(['valid', 'invalid']).toContain(result)
      expect(typeof reason).toBe(result === 'invalid' ? 'string' : 'undefined')
    }
  }
})
