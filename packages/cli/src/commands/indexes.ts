import type { Command } from 'commander'
import { print, reportText } from '../output.ts'
import { paceOf, type RowOptions, transactionSeconds, whatOf, wholeNumber } from '../options.ts'
import { createWaitView } from '../progress.ts'
import { type Act, examples } from './rows.ts'

interface Options extends Omit<RowOptions, 'keyspace' | 'shard'> {
  readonly newKey?: boolean
  readonly cancel?: boolean
  readonly longestTransaction?: number
}

/** The verb over blind indexes: reindex. */
export function addIndexCommands(program: Command, act: Act): void {
  program
    .command('reindex')
    .description('move blind indexes to what blindIndex.next describes, or to a new key, while both are filled')
    .option('--tenant <id>', 'only indexes of this tenant')
    .option('--model <id>', 'only this model')
    .option('--field <path>', 'only the index of this field')
    .option('--new-key', 'make new index keys, because the old ones leaked or are due')
    .option('--cancel', 'call off what has begun, as long as look-ups ask the old tokens')
    .option('--longest-transaction <seconds>', 'how long a transaction or cursor of yours may take', transactionSeconds)
    .option('--batch <rows>', 'rows read and written together', wholeNumber)
    .option('--concurrency <n>', 'batches under way at once', wholeNumber)
    .option('--rate <rows>', 'at most so many rows a second', wholeNumber)
    .option('--dry-run', 'list the rows that stand in the way, change nothing')
    .option('--restart', 'begin anew although there is a checkpoint')
    .addHelpText(
      'after',
      `\nDeploy blindIndex.next to every process first. Between its stages the command waits until every\nrunning process has heard of the last one; it may be interrupted at any time and goes on.${examples(
        'fieldseal reindex --field login --dry-run',
        'fieldseal reindex --model patients --field login',
        'fieldseal reindex --tenant clinic-7 --new-key',
      )}`,
    )
    .action((options: Options) =>
      act(async ({ migrator, pace, output }) => {
        const { newKey, cancel, longestTransaction: longest } = options
        const report = await migrator.reindex({
          ...whatOf(options),
          ...paceOf(options),
          ...pace,
          newKey: newKey === true,
          cancel: cancel === true,
          ...(longest === undefined ? {} : { longestTransactionMs: longest * 1_000 }),
          onWait: createWaitView(output),
        })
        print(output, report, () => reportText(report))
      }),
    )
}
