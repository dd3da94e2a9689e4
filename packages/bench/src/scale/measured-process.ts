import { fork } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import type { Measured } from './measure.ts'

/** What a measured process is told. */
export interface Task {
  readonly url: string
  readonly keyFile: string
  readonly rows: number
  readonly verb: 'rewrap' | 'backfill' | 'verify'
}

/** Runs `measured-rows` or `measured-documents` as a process that does nothing else. @throws Error when it fails */
export async function measureInProcess(script: 'measured-rows' | 'measured-documents', task: Task): Promise<Measured> {
  // `.js` once it is built.
  const file = path.join(import.meta.dirname, `${script}${path.extname(import.meta.filename)}`)
  const child = fork(file, [JSON.stringify(task)])
  let measured: Measured | undefined
  child.on('message', (message) => (measured = message as Measured)) // of `answer`
  const [code] = (await once(child, 'exit')) as [number | null]
  if (code !== 0 || measured === undefined) throw new Error(`${script} ended with ${code}`)
  return measured
}

/** In the measured process. */
export function readTask(): Task {
  return JSON.parse(process.argv[2] ?? '') as Task // of `measureInProcess`
}

/** In the measured process. */
export function answer(measured: Measured): void {
  process.send?.(measured, () => process.disconnect())
}
