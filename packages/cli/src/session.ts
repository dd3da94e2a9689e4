import { createMigrator, type Migrator, type Pace } from '@fieldseal/migrate'
import { openError } from './config-error.ts'
import type { FieldsealConfig } from './define-config.ts'
import { loadConfig } from './load-config.ts'
import type { Output } from './output.ts'
import { createProgressView } from './progress.ts'

export interface GlobalOptions {
  readonly config?: string
  readonly import?: readonly string[]
  readonly json?: boolean
}

/** What a command works with. */
export interface Session {
  readonly migrator: Migrator
  readonly config: FieldsealConfig
  readonly output: Output
  readonly cwd: string
  /** Ends by SIGINT, SIGTERM and SIGHUP. */
  readonly signal: AbortSignal
  /** Progress and interruption of a verb. */
  readonly pace: Pick<Pace, 'signal' | 'onProgress'>
}

/** Loads the configuration, runs a command, and closes what was opened, whatever happens. */
export async function withSession<R>(
  globals: GlobalOptions,
  { output, cwd, signal }: Pick<Session, 'output' | 'cwd' | 'signal'>,
  run: (session: Session) => Promise<R>,
): Promise<R> {
  const config = await loadConfig({ cwd, config: globals.config, imports: globals.import ?? [] })
  const view = createProgressView(output)
  let done: R
  try {
    await open(config)
    const migrator = createMigrator(config)
    const pace = { signal, onProgress: view.show }
    done = await run({ migrator, config, output, cwd, signal, pace })
  } catch (error) {
    view.end()
    // What went wrong first is what is told: what was never opened may not close either.
    await close(config).catch(() => undefined)
    throw error
  }
  view.end()
  await close(config)
  return done
}

async function open(config: FieldsealConfig): Promise<void> {
  try {
    await config.open?.()
  } catch (error) {
    throw openError(error)
  }
}

async function close(config: FieldsealConfig): Promise<void> {
  try {
    await config.fieldseal.close()
  } finally {
    await config.close?.()
  }
}
