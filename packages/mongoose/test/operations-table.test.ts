import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { page, render } from '../generate-operations.mjs'

it('the table of operations in the docs is the one that the tests make', () => {
  expect(readFileSync(page, 'utf8'), 'run: node packages/mongoose/generate-operations.mjs').toBe(render())
})
