import type { Command } from 'commander'
import type { Report } from '@fieldseal/migrate'
import { print, reportText, say } from '../output.ts'
import { paceOf, type RowOptions, whatOf, withPace, withRowOptions } from '../options.ts'
import { createWaitView } from '../progress.ts'
import type { Session } from '../session.ts'

export type Act = (run: (session: Session) => Promise<number | void>) => Promise<void>

/** Shows what it would do, then does it, then says what it did. */
export async function plannedRun(
  { output }: Session,
  dryRun: boolean,
  run: (dry: boolean) => Promise<Report>,
): Promise<void> {
  if (!dryRun && output.stderr.isTTY && !output.json) {
    const plan = await run(true)
    say(
      output,
      plan.models.map(({ model, rows, remaining }) => `${model}: about ${remaining} of ${rows} rows`).join('\n'),
    )
  }
  const report = await run(dryRun)
  print(output, report, () => reportText(report))
}

/** Verbs over rows: rewrap, verify, re-encrypt, rebind. */
export function addRowCommands(program: Command, act: Act): void {
  withRowOptions(program.command('rewrap'))
    .description('wrap the keys of stored values by the newest KEK; values are not touched')
    .option('--bind', 'also bind values to the row where they stand, which certifies that place')
    .addHelpText('after', examples('fieldseal rewrap --tenant clinic-7 --rate 5000', 'fieldseal rewrap --shard 1/4'))
    .action((options: RowOptions & { readonly bind?: boolean }) =>
      act((session) =>
        plannedRun(session, options.dryRun === true, (dryRun) =>
          session.migrator.rewrap({
            ...whatOf(options),
            ...paceOf(options),
            ...session.pace,
            bind: options.bind === true,
            dryRun,
          }),
        ),
      ),
    )

  withRowOptions(program.command('verify'))
    .description('open every value and compare every token')
    .addHelpText('after', examples('fieldseal verify --model patients --shard 1/4'))
    .action((options: RowOptions) =>
      act(async ({ migrator, pace, output }) => {
        const report = await migrator.verify({ ...whatOf(options), ...paceOf(options), ...pace })
        print(output, report, () => reportText(report))
      }),
    )

  withRowOptions(program.command('rebind'), { field: false })
    .description('bind values that are bound to no row to the row where they stand')
    .addHelpText(
      'after',
      `\nRows whose key has changed need the old one: use createMigrator().rebind({ formerKey }) in a script.${examples('fieldseal rebind --model patients')}`,
    )
    .action((options: RowOptions) =>
      act((session) =>
        plannedRun(session, options.dryRun === true, (dryRun) =>
          session.migrator.rebind({ ...whatOf(options), ...paceOf(options), ...session.pace, dryRun }),
        ),
      ),
    )

  withPace(program.command('re-encrypt'))
    .description('give a new key to every value that a leaked KEK could open')
    .requiredOption('--kek <id>', 'the KEK that leaked: fieldseal status lists them')
    .option('--model <id>', 'only this model')
    .option('--no-drain', 'do not wait until running processes have heard of it')
    .addHelpText('after', examples('fieldseal re-encrypt --kek 6f2c1b6a90d4e8f7a1b2c3d4'))
    .action((options: RowOptions & { readonly kek: string; readonly drain: boolean }) =>
      act(async ({ migrator, pace, output }) => {
        const { kek, drain, model } = options
        const report = await migrator.reEncrypt({
          ...(model === undefined ? {} : { model }),
          ...paceOf(options),
          ...pace,
          kek,
          drain,
          onWait: createWaitView(output),
        })
        print(output, report, () => reportText(report))
      }),
    )
}

export function examples(...lines: readonly string[]): string {
  return `\nExamples:\n${lines.map((line) => `  $ ${line}`).join('\n')}`
}
