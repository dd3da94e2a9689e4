import { expect, it } from 'vitest'
import { lockedOptionals, missingOptionals } from '../check-lockfile-platforms.mjs'

const lockfile = `---
lockfileVersion: '9.0'
snapshots:

  pnpm@12.4.2:
    optionalDependencies:
      '@pnpm/exe.linux-x64': 12.4.2

---
lockfileVersion: '9.0'

packages:

  '@biomejs/biome@2.5.15':
    resolution: {integrity: sha512-x}
    optionalDependencies:
      not-this-section: 1.0.0

snapshots:

  '@biomejs/biome@2.5.15':
    optionalDependencies:
      '@biomejs/cli-linux-x64': 2.5.15
      '@biomejs/cli-darwin-x64': 2.5.15

  pg@8.23.1(pg-native@3.0.0):
    dependencies:
      pg-pool: 3.10.1
    optionalDependencies:
      pg-cloudflare: 1.4.1
    transitivePeerDependencies:
      - x

  plain@1.0.0: {}
`
const locked = lockedOptionals(lockfile)

it('reads the resolved optional dependencies of every document', () => {
  expect(Object.fromEntries(locked)).toEqual({
    'pnpm@12.4.2': new Set(['@pnpm/exe.linux-x64']),
    '@biomejs/biome@2.5.15': new Set(['@biomejs/cli-linux-x64', '@biomejs/cli-darwin-x64']),
    'pg@8.23.1': new Set(['pg-cloudflare']),
    'plain@1.0.0': new Set(),
  })
})

it('names a platform package that was dropped', () => {
  const optionalDependencies = { '@biomejs/cli-linux-x64': '2.5.15', '@biomejs/cli-win32-x64': '2.5.15' }
  expect(missingOptionals(locked, [{ name: '@biomejs/biome', version: '2.5.15', optionalDependencies }])).toEqual([
    'pnpm-lock.yaml lacks @biomejs/cli-win32-x64, an optional dependency of @biomejs/biome 2.5.15',
  ])
})

it('passes over manifests without optional dependencies and those the lockfile does not know', () => {
  expect(
    missingOptionals(locked, [
      { name: 'plain', version: '1.0.0' },
      { name: 'plain', version: '2.0.0', optionalDependencies: { x: '1' } },
    ]),
  ).toEqual([])
})
