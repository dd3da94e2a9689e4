import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'

const BIN = path.join(import.meta.dirname, '../../src/bin.ts')
export const CONFIG = path.join(import.meta.dirname, 'fieldseal.config.ts')

const NODE_OPTIONS = ['--conditions=@fieldseal/source', '--no-warnings']

export interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** A folder to run commands in, with the environment that the configuration reads. */
export interface Desk {
  readonly folder: string
  readonly env: Record<string, string>
  /** Runs `fieldseal` as a child process. */
  run(...args: readonly string[]): Promise<Ended>
  /** The JSON that `fieldseal … --json` prints. */
  json<R>(...args: readonly string[]): Promise<R>
  node(file: string, ...args: readonly string[]): Promise<Ended>
  start(...args: readonly string[]): Started
  /** Runs a line of `sh`, in which `$FIELDSEAL` is the command, in a process group of its own. */
  shell(line: string): Started
}

export interface Started {
  readonly child: ChildProcess
  readonly ended: Promise<Ended>
}

export function createDesk(): Desk {
  const folder = mkdtempSync(path.join(tmpdir(), 'fieldseal-cli-'))
  const env: Record<string, string> = {
    // Half of the time of a short command is spent on reading its sources.
    NODE_COMPILE_CACHE: path.join(import.meta.dirname, '../../node_modules/.cache/compiled'),
    KEY_FILE: path.join(folder, 'fieldseal.key'),
    CMKS: 'one',
    FIELDSEAL: [process.execPath, ...NODE_OPTIONS, BIN].join(' '),
  }
  const startNode = (args: readonly string[]) => start(process.execPath, [...NODE_OPTIONS, ...args])
  const start = (command: string, args: readonly string[], detached = false): Started => {
    const child = spawn(command, args, {
      cwd: folder,
      detached,
      env: { ...process.env, ...env, NODE_ENV: 'test', NO_COLOR: undefined, FORCE_COLOR: undefined },
    })
    const ended = new Promise<Ended>((resolve, reject) => {
      let stdout = ''
      let stderr = ''
      child.stdout.on('data', (text: Buffer) => (stdout += text.toString()))
      child.stderr.on('data', (text: Buffer) => (stderr += text.toString()))
      child.on('error', reject)
      child.on('close', (code) => resolve({ code, stdout, stderr }))
    })
    return { child, ended }
  }
  const desk: Desk = {
    folder,
    env,
    start: (...args) => startNode([BIN, ...args]),
    shell: (line) => start('/bin/sh', ['-c', line], true),
    run: (...args) => desk.start(...args).ended,
    node: (file, ...args) => startNode([file, ...args]).ended,
    async json<R>(...args: readonly string[]) {
      const { code, stdout, stderr } = await desk.run(...args, '--json', '--config', CONFIG)
      if (code !== 0) throw new Error(`exit ${code}: ${stdout} ${stderr}`)
      return JSON.parse(stdout) as R
    },
  }
  return desk
}
