import { Command, CommanderError } from 'commander'
import { advised } from '@fieldseal/migrate'
import { addFieldStateCommands } from './commands/field-states.ts'
import { addIndexCommands } from './commands/indexes.ts'
import { addKeyCommands } from './commands/keys.ts'
import { addPlanCommands } from './commands/plans.ts'
import { type Act, addRowCommands, examples } from './commands/rows.ts'
import { EXIT, exitCodeOf, UsageError } from './exit-codes.ts'
import { collect } from './options.ts'
import { type Output, paint, printError } from './output.ts'
import { type GlobalOptions, withSession } from './session.ts'

/** The process that a command runs in. */
export interface Host {
  readonly argv: readonly string[]
  readonly cwd: string
  readonly stdout: NodeJS.WriteStream
  readonly stderr: NodeJS.WriteStream
  readonly signal: AbortSignal
}

/** Runs one command. Never throws. @returns its exit code */
export async function run({ argv, cwd, stdout, stderr, signal }: Host): Promise<number> {
  let code: number = EXIT.done
  const program = new Command('fieldseal')
    .description('Keys and encrypted rows of Fieldseal: status, rotation, migration, shredding')
    .option('--config <file>', 'the configuration; fieldseal.config.ts of this folder unless given')
    .option('--import <loader>', 'a module to import first, such as @oxc-node/core/register; may be repeated', collect)
    .option('--json', 'print results as JSON')
    .addHelpText(
      'after',
      examples('fieldseal status', 'fieldseal rotate kek --due', 'fieldseal rewrap --tenant clinic-7'),
    )
    .addHelpText('after', EXIT_HELP)
    .showHelpAfterError('(--help of the command tells what it takes)')
    .exitOverride()
    .configureOutput({ writeOut: (text) => stdout.write(text), writeErr: (text) => stderr.write(text) })
  const output: Output = {
    get json() {
      return program.opts<GlobalOptions>().json === true
    },
    stdout,
    stderr,
  }
  const act: Act = async (work) => {
    const done = await withSession(program.opts<GlobalOptions>(), { output, cwd, signal }, work)
    if (typeof done === 'number') code = done
  }
  addKeyCommands(program, act)
  addRowCommands(program, act)
  addIndexCommands(program, act)
  addFieldStateCommands(program, act)
  addPlanCommands(program, act)
  inherit(program)
  try {
    await program.parseAsync(argv, { from: 'user' })
    return code
  } catch (thrown) {
    if (thrown instanceof CommanderError) {
      if (thrown.exitCode === 0) return EXIT.done
      // It has told people why.
      const why = thrown.code === 'commander.help' ? 'name a command' : thrown.message.replace(/^error: /, '')
      if (output.json) printError(output, new UsageError(why))
      return EXIT.usage
    }
    const error = advised(thrown)
    const exit = exitCodeOf(error)
    if (exit === EXIT.interrupted)
      stderr.write(
        `${paint(output, 'yellow', 'interrupted')}: the checkpoint is kept, the same command goes on from there\n`,
      )
    else printError(output, error)
    return exit
  }
}

/** Every command throws instead of exiting, and takes the global options wherever they stand. */
function inherit(program: Command): void {
  for (const command of program.commands) {
    command.copyInheritedSettings(program)
    inherit(command)
  }
}

const EXIT_HELP = `
Exit codes:
  0 done · 1 unexpected · 2 usage or configuration · 3 rows remain, or findings
  4 refused: a key is still needed, a plan is out of date · 5 key denied or service unavailable
  130 interrupted, checkpoint kept`
