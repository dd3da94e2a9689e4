// Builds the two images that a check without an image registry needs, from Debian's packages: `node images/build.ts`.
// Talks to the Docker engine that the environment names. Prints the variables that make the tests use the images.
import { execFileSync } from 'node:child_process'
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { cachedRoot } from '../src/documentdb/cached-root.ts'

const BASE = 'fieldseal/debian-postgresql:18'
const IMAGES = [
  { dockerfile: 'postgres.Dockerfile', image: 'fieldseal/postgres:18', variable: 'PG_IMAGE' },
  { dockerfile: 'documentdb.Dockerfile', image: 'fieldseal/documentdb:1.0', variable: 'MONGO_IMAGE' },
]

const root = await cachedRoot()
const context = mkdtempSync(path.join(tmpdir(), 'fieldseal-images-'))
try {
  const archive = path.join(context, 'root.tar')
  run('tar', ['--directory', root, '--exclude=./template', '--exclude=./run/*', '--create', '--file', archive, '.'])
  run('docker', ['import', archive, BASE])
  rmSync(archive)
  cpSync(import.meta.dirname, context, { recursive: true })
  run('cp', ['--archive', path.join(root, 'template'), context])
  for (const { dockerfile, image } of IMAGES) {
    const options = ['--quiet', '--build-arg', `BASE=${BASE}`, '--file', path.join(context, dockerfile)]
    run('docker', ['build', ...options, '--tag', image, context])
  }
} finally {
  rmSync(context, { recursive: true, force: true })
}
for (const { variable, image } of IMAGES) process.stdout.write(`${variable}=${image}\n`)

function run(command: string, options: readonly string[]): void {
  execFileSync(command, options, { stdio: ['ignore', 'ignore', 'inherit'] })
}
