import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync } from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'

const exec = promisify(execFile)
const shell = process.platform === 'win32'
const here = path.join(import.meta.dirname, '..', '..')
const packages = path.join(here, '..', 'packages')

export interface Manifest {
  readonly name: string
  readonly version: string
  readonly type?: string
  readonly sideEffects?: boolean
  readonly license?: string
  readonly bin?: Readonly<Record<string, string>>
  readonly dependencies?: Readonly<Record<string, string>>
  readonly peerDependencies?: Readonly<Record<string, string>>
  readonly exports: Readonly<Record<string, unknown>>
}

export interface Packed {
  readonly name: string
  readonly tarball: string
  /** Where the tarball is unpacked, as npm would. */
  readonly folder: string
  readonly manifest: Manifest
}

/** Folders of the packages that are published. */
export function publishedFolders(): string[] {
  return readdirSync(packages)
    .map((name) => path.join(packages, name))
    .filter((folder) => existsSync(path.join(folder, 'package.json')))
    .filter((folder) => JSON.parse(readFileSync(path.join(folder, 'package.json'), 'utf8')).private !== true)
}

/** Builds and packs every published package, and unpacks it into `node_modules` of a folder. */
export async function packAll(folder: string): Promise<Packed[]> {
  const packed: Packed[] = []
  for (const source of publishedFolders()) {
    const build = path.join(packages, 'config', 'build.mjs')
    await exec(process.execPath, [build, '--with-dependencies'], { cwd: source })
    const { stdout } = await exec('pnpm', ['pack', '--json', '--pack-destination', folder], { cwd: source, shell })
    const { name, filename } = JSON.parse(stdout) as { name: string; filename: string }
    const target = path.join(folder, 'node_modules', name)
    mkdirSync(target, { recursive: true })
    const tarball = path.resolve(source, filename)
    await exec('tar', ['-xzf', tarball, '-C', target, '--strip-components=1'])
    const manifest = JSON.parse(readFileSync(path.join(target, 'package.json'), 'utf8')) as Manifest
    packed.push({ name, tarball, folder: target, manifest })
  }
  return packed
}

/** Gives a folder packages that this one has, as if installed beside the tarballs. */
export function linkPackages(folder: string, names: readonly string[]): void {
  for (const name of names) {
    const link = path.join(folder, 'node_modules', name)
    mkdirSync(path.dirname(link), { recursive: true })
    symlinkSync(path.join(here, 'node_modules', name), link, 'junction')
  }
}

/** Runs a tool of this package's dependencies, or a script, with the Node at hand. @throws with all of its output */
export async function runNode(script: string, args: readonly string[], cwd: string): Promise<string> {
  try {
    return (await exec(process.execPath, [script, ...args], { cwd })).stdout
  } catch (error) {
    const { stdout, stderr } = error as { stdout?: string; stderr?: string }
    throw new Error(`${path.basename(script)} ${args.join(' ')} failed\n${stdout ?? ''}${stderr ?? ''}`, {
      cause: error,
    })
  }
}

export function tool(name: string, file: string): string {
  return path.join(here, 'node_modules', name, file)
}
