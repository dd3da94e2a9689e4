/** Tells on stderr what servers a run has; the summary of all packages repeats these lines. */
export function say(what: string): void {
  process.stderr.write(`servers: ${what}\n`)
}
