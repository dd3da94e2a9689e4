import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createKeyFile } from '@fieldseal/kms-local'
import { hasPostgres, useDatabase } from '@fieldseal/servers/vitest'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { linkPackages, packAll, publishedFolders, runNode, tool, type Packed } from './support/tarballs.ts'

/** Tools and consumers start processes, several times as slow when all cores are busy. */
const SLOW_MS = 120_000

const workspace = mkdtempSync(path.join(tmpdir(), 'fieldseal-packaging-'))
const keyFile = path.join(workspace, 'fieldseal.key')
const names = publishedFolders().map((folder) => path.basename(folder))
let packed: readonly Packed[] = []
const packageOf = (name: string): Packed => {
  const found = packed.find((candidate) => candidate.name === `@fieldseal/${name}`)
  if (!found) throw new Error(`${name} was not packed`)
  return found
}
const filesOf = ({ folder }: Packed): string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name)).replaceAll(path.sep, '/'))

beforeAll(async () => {
  packed = await packAll(workspace)
  linkPackages(workspace, ['typeorm', 'reflect-metadata', 'pg', '@types/node'])
  createKeyFile(keyFile, ['default'])
}, SLOW_MS)
afterAll(() => rmSync(workspace, { recursive: true, force: true }))

describe.each(names)('the tarball of %s', (name) => {
  it('holds what its manifest names, the sources, a licence and a README, and no tests', () => {
    const files = filesOf(packageOf(name))
    expect(files).toEqual(expect.arrayContaining(['package.json', 'LICENSE', 'README.md', 'dist/cjs/package.json']))
    expect(files.filter((file) => !/^(dist|src)\//.test(file)).sort()).toEqual(['LICENSE', 'README.md', 'package.json'])
    const targets = [...JSON.stringify(packageOf(name).manifest.exports).matchAll(/"\.\/([^"]+\.[a-z.]+)"/g)]
    expect(targets.length).toBeGreaterThan(0)
    for (const [, target] of targets) expect(files).toContain(target)
    for (const target of Object.values(packageOf(name).manifest.bin ?? {}))
      expect(readFileSync(path.join(packageOf(name).folder, target), 'utf8')).toMatch(/^#!\/usr\/bin\/env node\n/)
  })

  it('has a manifest that means the same outside the workspace', () => {
    const { manifest } = packageOf(name)
    expect(JSON.stringify([manifest.dependencies, manifest.peerDependencies])).not.toContain('workspace:')
    expect(manifest).toMatchObject({ type: 'module', sideEffects: false, license: 'Apache-2.0' })
    if (name === 'core' || name.startsWith('kms-')) expect(manifest.dependencies ?? {}).toEqual({})
  })

  it('has source maps that lead to the sources inside', () => {
    const { folder } = packageOf(name)
    const maps = filesOf(packageOf(name)).filter((file) => file.endsWith('.map'))
    expect(maps.length).toBeGreaterThan(0)
    for (const map of maps) {
      const { sources } = JSON.parse(readFileSync(path.join(folder, map), 'utf8')) as { sources: string[] }
      for (const source of sources) expect(existsSync(path.join(folder, path.dirname(map), source)), map).toBe(true)
    }
  })

  it('resolves, code and types, in every module system', { timeout: SLOW_MS }, async () => {
    const { tarball, folder } = packageOf(name)
    // node10 knows no `exports`, so it can have no entries but the first.
    await runNode(
      tool('@arethetypeswrong/cli', 'dist/index.js'),
      [tarball, '--profile', 'node16', '--no-emoji'],
      folder,
    )
    await runNode(tool('publint', 'src/cli.js'), ['run', folder, '--strict', '--pack', 'false'], folder)
  })
})

interface Consumer {
  readonly title: string
  readonly source: string
  readonly type: 'module' | 'commonjs'
  readonly compilerOptions: Readonly<Record<string, unknown>>
  readonly says?: Readonly<Record<string, unknown>>
}

const consumers: readonly Consumer[] = [
  { title: 'ESM', source: 'application.ts', type: 'module', compilerOptions: { module: 'nodenext' } },
  { title: 'CommonJS', source: 'application.ts', type: 'commonjs', compilerOptions: { module: 'nodenext' } },
  {
    title: 'CommonJS with bundler resolution',
    source: 'application.ts',
    type: 'commonjs',
    compilerOptions: { module: 'commonjs', moduleResolution: 'bundler' },
  },
  {
    title: 'ESM with a CommonJS library in it',
    source: 'mixed.ts',
    type: 'module',
    compilerOptions: { module: 'nodenext' },
    says: { twoCopies: true, brandedAcross: true },
  },
]

describe.each(consumers)('a consumer: $title', ({ title, source, type, compilerOptions, says }) => {
  const folder = path.join(workspace, title.replaceAll(' ', '-').toLowerCase())

  it('compiles with the types of the tarballs', { timeout: SLOW_MS }, async () => {
    mkdirSync(folder, { recursive: true })
    copyFileSync(path.join(import.meta.dirname, 'consumers', source), path.join(folder, 'main.ts'))
    writeFileSync(path.join(folder, 'package.json'), JSON.stringify({ private: true, type }))
    const options = { target: 'es2022', strict: true, experimentalDecorators: true, emitDecoratorMetadata: true }
    const types = { types: ['node'], skipLibCheck: false }
    writeFileSync(
      path.join(folder, 'tsconfig.json'),
      JSON.stringify({ compilerOptions: { ...options, ...types, ...compilerOptions } }),
    )
    await runNode(tool('typescript', 'bin/tsc'), ['-p', '.'], folder)
    expect(readFileSync(path.join(folder, 'main.js'), 'utf8').includes('require("@fieldseal/core")')).toBe(
      type === 'commonjs',
    )
  })

  describe.runIf(hasPostgres())('on PostgreSQL', () => {
    const database = useDatabase()

    it('writes ciphertext, finds it by its token, and is refused without a tenant', { timeout: SLOW_MS }, async () => {
      const stdout = await runNode(path.join(folder, 'main.js'), [database.url, keyFile], folder)
      expect(JSON.parse(stdout)).toEqual({
        found: 'Ada@example.org',
        stored: expect.stringMatching(/^fs\./),
        refused: 'ERR_TENANT_MISSING',
        ...says,
      })
    })
  })
})
