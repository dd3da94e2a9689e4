import { say } from './say.ts'

/** One way to get a server; the first that works is taken. */
export interface Rung<Name extends string, Started> {
  readonly name: Name
  /** @returns undefined when the machine does not have this way @throws Error when it has, and it failed */
  start(): Promise<Started | undefined>
}

/**
 * Tries the rungs in order; only those that `SERVERS_FROM`, a comma-separated list of their names, has, if it is set.
 * One that exists and fails is told in a line, and the next is tried; only a server that the
 * caller named, on the rung `environment`, must work.
 *
 * @param server what is looked for, to be shown
 * @param advice what a user can do when no rung works
 * @throws Error listing what was tried
 */
export async function climb<Name extends string, Started>(
  server: string,
  rungs: readonly Rung<Name, Started>[],
  advice: string,
): Promise<{ readonly rung: Name; readonly started: Started }> {
  const failures: string[] = []
  for (const { name, start } of rungs.filter(isWanted)) {
    try {
      const started = await start()
      if (started !== undefined) return { rung: name, started }
    } catch (error) {
      if (name === 'environment') throw error
      const failure = `${name}: ${firstLine(error)}`
      failures.push(failure)
      say(`${server} not from ${failure}`)
    }
  }
  throw new Error([`no ${server}: ${advice}`, ...failures].join('\n  '))
}

function isWanted({ name }: { readonly name: string }): boolean {
  const list = process.env['SERVERS_FROM'] ?? ''
  return list === '' || list.split(',').some((wanted) => wanted.trim() === name)
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

function firstLine(error: unknown): string {
  return messageOf(error).trim().split('\n')[0] ?? ''
}
