import { execFile } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** The first Debian release that has the engine; it gets only what the engine needs, beside the machine's own. */
const RELEASE = 'forky'
/** The shells and tools are for the scripts of initdb and of images made from this. */
const PACKAGES = ['postgresql-18-documentdb', 'libc-bin', 'dash', 'bash', 'coreutils']
/** Of Debian's archive; apt checks every list and package by it. */
export const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg'
/** User and group `postgres` below the root; outside, an account that is not likely to be taken. */
export const POSTGRES_ID = 59_432

/** What a program expects in any root. */
const DEVICES = [
  { name: 'null', major: '1', minor: '3' },
  { name: 'zero', major: '1', minor: '5' },
  { name: 'urandom', major: '1', minor: '9' },
]
/** What a server never reads. */
const LEFT_OUT = ['doc', 'man', 'locale', 'info', 'lintian', 'fonts', 'perl'].map((name) => `./usr/share/${name}`)

/**
 * Unpacks the engine and all libraries it needs below a folder, from Debian's packages. Their signatures are checked
 * by apt; nothing is installed on the machine.
 *
 * @param work a folder for the downloads, to be removed by the caller
 */
export async function unpackEngine(mirror: string, root: string, work: string): Promise<void> {
  const options = aptOptions(mirror, work)
  await run('apt-get', [...options, 'update', '-qq'])
  await run('apt-get', [...options, 'install', '-qq', '--yes', '--download-only', ...PACKAGES])
  const archives = path.join(work, 'cache', 'archives')
  const files = readdirSync(archives).filter((name) => name.endsWith('.deb'))
  mkdirSync(root, { recursive: true })
  const excludes = LEFT_OUT.map((name) => `--exclude=${name}`).join(' ')
  const unpack = async (): Promise<void> => {
    for (let file = files.pop(); file !== undefined; file = files.pop()) {
      const script = `dpkg-deb --fsys-tarfile "$1" | tar --extract --directory "$2" ${excludes}`
      await run('/bin/sh', ['-c', script, 'unpack', path.join(archives, file), root])
    }
  }
  await Promise.all([unpack(), unpack()])
  finish(root)
  for (const { name, major, minor } of DEVICES) {
    await run('mknod', ['--mode=666', path.join(root, 'dev', name), 'c', major, minor])
  }
  await run('chroot', [root, '/sbin/ldconfig'])
}

/** An apt of its own: the machine's configuration for reaching a mirror, but no list, state or cache of the machine. */
function aptOptions(mirror: string, work: string): string[] {
  for (const folder of ['lists/partial', 'cache/archives/partial', 'none']) {
    mkdirSync(path.join(work, folder), { recursive: true })
  }
  const at = (name: string) => path.join(work, name)
  writeFileSync(at('status'), '')
  // Mirrors that are snapshots of a moment hold lists whose validity has passed.
  writeFileSync(at('sources.list'), `deb [signed-by=${KEYRING} check-valid-until=no] ${mirror} ${RELEASE} main\n`)
  const settings = {
    'Dir::State::lists': at('lists'),
    'Dir::State::status': at('status'),
    'Dir::State::extended_states': at('extended'),
    'Dir::Cache': at('cache'),
    'Dir::Etc::sourcelist': at('sources.list'),
    'Dir::Etc::sourceparts': at('none'),
    'Dir::Etc::preferences': at('no-preferences'),
    'Dir::Etc::preferencesparts': at('none'),
    'APT::Install-Recommends': 'false',
    'APT::Sandbox::User': 'root',
    'Acquire::Languages': 'none',
  }
  return Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`])
}

/** What the packages' own scripts would do; none is run. */
function finish(root: string): void {
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) {
    if (!existsSync(path.join(root, name))) symlinkSync(`usr/${name}`, path.join(root, name))
  }
  for (const name of ['proc', 'dev/shm', 'tmp', 'run', 'var/lib/postgresql']) {
    mkdirSync(path.join(root, name), { recursive: true })
  }
  for (const name of ['tmp', 'dev/shm']) chmodSync(path.join(root, name), 0o1777)
  const write = (name: string, text: string) => writeFileSync(path.join(root, 'etc', name), text)
  write('passwd', `root:x:0:0:root:/:/bin/sh\npostgres:x:${POSTGRES_ID}:${POSTGRES_ID}::/:/bin/sh\n`)
  write('group', `root:x:0:\npostgres:x:${POSTGRES_ID}:\n`)
  write('hosts', '127.0.0.1 localhost\n')
  const libraries = readdirSync(path.join(root, 'usr/lib'))
    .filter((name) => name.includes('-linux-'))
    .flatMap((name) => ['blas', 'lapack'].map((alternative) => `/usr/lib/${name}/${alternative}`))
  write('ld.so.conf.d/alternatives.conf', `${libraries.join('\n')}\n`)
  const extensions = path.join(root, 'usr/share/postgresql/18/extension')
  symlinkSync('postgis-3.control', path.join(extensions, 'postgis.control'))
}
