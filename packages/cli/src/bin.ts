#!/usr/bin/env node
import { EXIT } from './exit-codes.ts'
import { run } from './run.ts'
import { isFull } from './write-whole.ts'

const stop = new AbortController()
let interrupted = false
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(signal, () => {
    if (interrupted) process.exit(EXIT.interrupted) // who asks twice does not want to wait
    interrupted = true
    stop.abort()
  })
// Whoever reads the output may go, as `head` does, or a terminal that is closed; a disk that is full loses it.
let lost: string | undefined
process.stderr.on('error', () => undefined)
process.stdout.on('error', ({ code = '' }: NodeJS.ErrnoException) => {
  if (code !== 'EPIPE' && !(code === 'EIO' && process.stdout.isTTY)) lost = code
})

let ended = false
void run({
  argv: process.argv.slice(2),
  cwd: process.cwd(),
  stdout: process.stdout,
  stderr: process.stderr,
  signal: stop.signal,
}).then((code) => {
  ended = true
  process.exitCode = code
})
process.on('exit', (code) => {
  if (!ended && code === EXIT.done) {
    process.stderr.write(
      'fieldseal: ended before the command was done: the configuration waits for what never comes, or has ended the process\n',
    )
    process.exitCode = EXIT.unexpected
  }
  if (lost === undefined) return
  const advice = `${isFull(lost) ? 'make room' : 'see what is wrong with it'}, then run the same command again`
  process.stderr.write(`fieldseal: the result could not be written: ${lost}; ${advice}\n`)
  if (code === EXIT.done) process.exitCode = EXIT.unexpected
})
