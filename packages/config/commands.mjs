import { spawn } from 'node:child_process'
import path from 'node:path'

/** The folder of the repository. */
export const root = path.join(import.meta.dirname, '..', '..')

/**
 * Runs a command in the repository. Its output goes to stderr: stdout is for results.
 *
 * @param options.quiet hold the output back and show it only if the command fails
 * @returns whether it succeeded
 */
export async function run(command, args, { cwd = root, env = process.env, quiet = false } = {}) {
  const { code, output } = await capture(command, args, { cwd, env, live: !quiet })
  if (quiet && code !== 0) process.stderr.write(output)
  return code === 0
}

/** Runs a command and collects what it prints; with `live`, stderr shows it at once. */
export function capture(command, args, { cwd = root, env = process.env, live = false } = {}) {
  return new Promise((resolve) => {
    // pnpm and npm are .cmd files on Windows, which only a shell runs.
    const shell = process.platform === 'win32' && command !== process.execPath
    const child = spawn(command, args, { cwd, env, shell, stdio: ['ignore', 'pipe', 'pipe'] })
    let output = ''
    let stdout = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => {
        output += text
        if (stream === child.stdout) stdout += text
        if (live) process.stderr.write(text)
      })
    }
    child.once('error', (error) => resolve({ code: 1, stdout, output: `${output}${error.message}\n` }))
    child.once('close', (code) => resolve({ code: code ?? 1, stdout, output }))
  })
}
