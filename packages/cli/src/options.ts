import { type Command, InvalidArgumentError } from 'commander'
import type { Pace, What } from '@fieldseal/migrate'

/** Options of verbs over rows, as commander gives them. */
export interface RowOptions extends What {
  readonly batch?: number
  readonly concurrency?: number
  readonly rate?: number
  readonly shard?: readonly [number, number]
  readonly dryRun?: boolean
  readonly restart?: boolean
}

export function wholeNumber(text: string): number {
  if (/^[1-9][0-9]{0,9}$/.test(text)) return Number(text)
  throw new InvalidArgumentError('expected a positive whole number')
}

export function transactionSeconds(text: string): number {
  return text === '0' ? 0 : wholeNumber(text)
}

export function days(text: string): number {
  if (/^[0-9]{1,3}$/.test(text)) return Number(text)
  throw new InvalidArgumentError('expected a number of days')
}

export function shard(text: string): readonly [number, number] {
  const [, i = '', n = ''] = /^([1-9][0-9]*)\/([1-9][0-9]*)$/.exec(text) ?? []
  if (i !== '' && Number(i) <= Number(n)) return [Number(i), Number(n)]
  throw new InvalidArgumentError('expected i/n, as 1/4')
}

export function collect(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value]
}

/** Which rows, and how fast. */
export function withRowOptions(command: Command, { field = true } = {}): Command {
  command
    .option('--tenant <id>', 'only rows of this tenant')
    .option('--model <id>', 'only this model')
    .option('--keyspace <name>', 'only rows of this keyspace')
  if (field) command.option('--field <path>', 'only this field')
  return withPace(command)
}

export function withPace(command: Command): Command {
  return command
    .option('--batch <rows>', 'rows read and written together', wholeNumber)
    .option('--concurrency <n>', 'batches under way at once', wholeNumber)
    .option('--rate <rows>', 'at most so many rows a second', wholeNumber)
    .option('--shard <i/n>', 'one of n processes that share the work', shard)
    .option('--dry-run', 'count and estimate, write nothing')
    .option('--restart', 'begin anew although there is a checkpoint')
}

export function paceOf({ batch, concurrency, rate, shard: part, dryRun, restart }: RowOptions): Pace {
  return {
    ...(batch === undefined ? {} : { batchSize: batch }),
    ...(concurrency === undefined ? {} : { concurrency }),
    ...(rate === undefined ? {} : { rowsPerSecond: rate }),
    ...(part === undefined ? {} : { shard: part }),
    ...(dryRun === true ? { dryRun } : {}),
    ...(restart === true ? { restart } : {}),
  }
}

export function whatOf({ tenant, model, field, keyspace }: RowOptions): What {
  return {
    ...(tenant === undefined ? {} : { tenant }),
    ...(model === undefined ? {} : { model }),
    ...(field === undefined ? {} : { field }),
    ...(keyspace === undefined ? {} : { keyspace }),
  }
}
