#!/usr/bin/env node
import { EXIT } from './exit-codes.ts'
import { run } from './run.ts'

const stop = new AbortController()
let interrupted = false
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(signal, () => {
    if (interrupted) process.exit(EXIT.interrupted) // who asks twice does not want to wait
    interrupted = true
    stop.abort()
  })
// Whoever reads the output may go, as `head` does.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined)

void run({
  argv: process.argv.slice(2),
  cwd: process.cwd(),
  stdout: process.stdout,
  stderr: process.stderr,
  signal: stop.signal,
}).then((code) => {
  process.exitCode = code
})
