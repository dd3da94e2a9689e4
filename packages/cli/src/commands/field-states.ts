import type { Command } from 'commander'
import { UsageError } from '../exit-codes.ts'
import { paceOf, type RowOptions, whatOf, withRowOptions } from '../options.ts'
import { type Act, examples, plannedRun } from './rows.ts'

/** Verbs over fields on their way from plaintext: backfill, decrypt. */
export function addFieldStateCommands(program: Command, act: Act): void {
  withRowOptions(program.command('backfill'))
    .description(
      "encrypt stored plaintext of fields in state 'migrating'; give those in state 'plaintext' their tokens",
    )
    .addHelpText(
      'after',
      `\n--field may name the model too: patients.phone. Without it all fields that are not encrypted yet are meant.\nExits 3 while plaintext, or values without tokens, remain.${examples(
        'fieldseal backfill --field patients.phone --dry-run',
        'fieldseal backfill --rate 2000',
      )}`,
    )
    .action((options: RowOptions) =>
      act((session) => {
        const named = fieldOf(options)
        return plannedRun(session, options.dryRun === true, (dryRun) =>
          session.migrator.backfill({
            ...whatOf({ ...options, ...named }),
            ...paceOf(options),
            ...session.pace,
            dryRun,
          }),
        )
      }),
    )

  withRowOptions(program.command('decrypt'))
    .description('store the values of one field in plaintext again: the way back')
    .addHelpText(
      'after',
      `\nThe field must be in state 'plaintext' everywhere. Values that its column cannot hold stay encrypted and are\nlisted by key; then it exits 3.${examples('fieldseal decrypt --field patients.phone')}`,
    )
    .action((options: RowOptions) => {
      const { model, field } = fieldOf(options)
      if (model === undefined || field === undefined) throw new UsageError('name one field: --field patients.phone')
      return act((session) =>
        plannedRun(session, options.dryRun === true, (dryRun) =>
          session.migrator.decrypt({
            ...whatOf(options),
            model,
            field,
            ...paceOf(options),
            ...session.pace,
            dryRun,
          }),
        ),
      )
    })
}

/** `patients.phone` → model and field, unless the model stands beside it. */
function fieldOf({ model, field }: RowOptions): { readonly model?: string; readonly field?: string } {
  if (field === undefined) return model === undefined ? {} : { model }
  if (model !== undefined) return { model, field }
  const dot = field.indexOf('.')
  return dot < 1 ? { field } : { model: field.slice(0, dot), field: field.slice(dot + 1) }
}
