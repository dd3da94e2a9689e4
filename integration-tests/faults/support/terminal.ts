import { spawnSync } from 'node:child_process'

// A terminal of one known kind, whatever the tests themselves run on: on a dumb one, or where CI is set, Node sees no colours.
const KIND = 'export TERM=xterm; unset CI COLORTERM NODE_DISABLE_COLORS TEAMCITY_VERSION; stty cols 120 rows 40'
const PTY = 'import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(["/bin/sh", "-c", sys.argv[1]])))'

/**
 * How a line of `sh` is run on a terminal of its own, which takes what is written to its stdin as typed.
 * @returns undefined where the machine has nothing that makes one
 */
export function onTerminal(): ((line: string) => string) | undefined {
  const sized = (line: string) => quoted(`${KIND}; ${line}`)
  if (/util-linux/.test(versionOf('script'))) return (line) => `exec script -qec ${sized(line)} /dev/null`
  if (versionOf('python3').startsWith('Python 3')) return (line) => `exec python3 -c ${quoted(PTY)} ${sized(line)}`
  return undefined
}

function versionOf(program: string): string {
  return spawnSync(program, ['--version'], { encoding: 'utf8' }).stdout ?? ''
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`
}
