import { describe, expect, it } from 'vitest'
import { breaches, importsOf, MAX_LINES } from '../check-layers.mjs'

const doors = ['src/index.ts', 'src/kms.ts']
const check = (file, text) => breaches(file, text, { doors, dependencies: ['@fieldseal/core', 'typeorm'] })

describe('importsOf', () => {
  it.each([
    ["import { a } from './a.ts'", './a.ts', false, false],
    ["import type { A } from './a.ts'", './a.ts', true, false],
    ["import { type A, type B } from './a.ts'", './a.ts', true, false],
    ["import { type A, b } from './a.ts'", './a.ts', false, false],
    ["import * as a from './a.ts'", './a.ts', false, false],
    ["import './a.ts'", './a.ts', false, false],
    ["import {\n  a,\n  b,\n} from './a.ts'", './a.ts', false, false],
    ["export * from './a.ts'", './a.ts', false, true],
    ["export type { A } from './a.ts'", './a.ts', true, true],
    ["const a = await import('./a.ts')", './a.ts', false, false],
    ["let a: typeof import('./a.ts')", './a.ts', true, false],
    ["const a = require('./a.ts')", './a.ts', false, false],
  ])('finds %s', (text, specifier, typeOnly, reExport) => {
    expect(importsOf(text)).toEqual([{ specifier, typeOnly, reExport }])
  })

  it.each(["// import './a.ts'", "/* import './a.ts' */", "export const a = 'x'", "export default 'x'"])(
    'finds nothing in %s',
    (text) => {
      expect(importsOf(text)).toEqual([])
    },
  )
})

describe('layers of core', () => {
  it('lets a folder import itself and what stands above it', () => {
    expect(check('core/src/keys/cmk.ts', "import { a } from './a.ts'\nimport { b } from '../bytes/b.ts'\n")).toEqual([])
  })

  it('refuses what stands below', () => {
    expect(check('core/src/keys/cmk.ts', "import { a } from '../cache/a.ts'")).toEqual([
      expect.stringContaining("imports '../cache/a.ts': keys/ may import only errors,"),
    ])
  })

  it('refuses a folder without a place, and the root from a folder', () => {
    expect(check('core/src/utils/a.ts', "import { b } from '../bytes/b.ts'")).toHaveLength(1)
    expect(check('core/src/keys/a.ts', "import { b } from '../create-fieldseal.ts'")).toHaveLength(1)
  })

  it('refuses npm packages, our own included, and allows node:', () => {
    expect(breaches('core/src/bytes/a.ts', "import 'left-pad'")).toHaveLength(1)
    expect(breaches('core/src/bytes/a.ts', "import { x } from '@fieldseal/testkit'")).toHaveLength(1)
    expect(breaches('core/src/bytes/a.ts', "import { x } from 'node:crypto'")).toEqual([])
  })
})

describe('layers of packages', () => {
  it('gives a KMS provider only the door for KMS providers', () => {
    expect(check('kms-aws/src/index.ts', "import { x } from '@fieldseal/core/kms'")).toEqual([])
    expect(check('kms-aws/src/index.ts', "import { x } from '@fieldseal/core'")).toHaveLength(1)
    expect(check('kms-aws/src/index.ts', "import { x } from '@fieldseal/kms-local'")).toHaveLength(1)
  })

  it('gives an adapter the door for adapters and the types of the one for applications', () => {
    expect(check('typeorm/src/a.ts', "import { x } from '@fieldseal/core/adapter'\nimport 'typeorm'")).toEqual([])
    expect(check('typeorm/src/a.ts', "import type { X } from '@fieldseal/core'")).toEqual([])
    expect(check('typeorm/src/a.ts', "import { x } from '@fieldseal/core'")).toHaveLength(1)
    expect(check('typeorm/src/a.ts', "import { x } from '@fieldseal/core/kms'")).toHaveLength(1)
  })

  it('refuses a package that the manifest does not name', () => {
    expect(check('typeorm/src/a.ts', "import pg from 'pg'")).toHaveLength(1)
  })

  it('refuses a way out of src, a re-export outside the doors, and the import of a door', () => {
    expect(check('typeorm/src/a.ts', "import { x } from '../test/x.ts'")).toHaveLength(1)
    expect(check('typeorm/src/a.ts', "export { x } from './x.ts'")).toHaveLength(1)
    expect(check('typeorm/src/index.ts', "export { x } from './x.ts'")).toEqual([])
    expect(check('typeorm/src/a.ts', "import { x } from './index.ts'")).toHaveLength(1)
  })
})

describe('length of a source', () => {
  it(`allows ${MAX_LINES} lines and not one more`, () => {
    expect(check('core/src/bytes/a.ts', '\n'.repeat(MAX_LINES))).toEqual([])
    expect(check('core/src/bytes/a.ts', '\n'.repeat(MAX_LINES + 1))).toHaveLength(1)
  })
})
