import path from 'node:path'
import { createInterface } from 'node:readline/promises'
import type { Command } from 'commander'
import { type Applied, checkedPlan, type Plan } from '@fieldseal/migrate'
import { UsageError } from '../exit-codes.ts'
import { type Output, print, say } from '../output.ts'
import { days, transactionSeconds } from '../options.ts'
import type { Session } from '../session.ts'
import { OWNER_ONLY, writeWhole } from '../write-whole.ts'
import { readJson } from './keys.ts'
import { type Act, examples } from './rows.ts'

interface ApplyFlags {
  readonly cancel?: boolean
  readonly confirm?: string
  readonly yes?: boolean
}

/** What cannot be taken back is planned first, and applied from the plan. */
export function addPlanCommands(program: Command, act: Act): void {
  const plan = program.command('plan').description('write down what an apply would do')
  plan
    .command('move')
    .description('make the wraps of a tenant’s keys agree with its configured CMKs')
    .option('--tenant <id>', 'the tenant; none in tenancy single')
    .requiredOption('--out <file>', 'where the plan goes')
    .addHelpText(
      'after',
      examples('fieldseal plan move --tenant clinic-7 --out move.json', 'fieldseal apply move.json'),
    )
    .action(({ out, tenant }: { readonly out: string; readonly tenant?: string }) =>
      act((session) => writePlan(session, out, session.migrator.plan('move', tenant === undefined ? {} : { tenant }))),
    )
  plan
    .command('retire')
    .description('take a key out of use that nothing needs any more')
    .requiredOption('--kek <id>', 'the key: fieldseal status lists them')
    .option('--longest-transaction <seconds>', 'how long a transaction of yours may take', transactionSeconds)
    .requiredOption('--out <file>', 'where the plan goes')
    .addHelpText('after', examples('fieldseal plan retire --kek 6f2c1b6a90d4e8f7a1b2c3d4 --out retire.json'))
    .action((options: { readonly kek: string; readonly out: string; readonly longestTransaction?: number }) =>
      act((session) => {
        const { kek, out, longestTransaction } = options
        const longest = longestTransaction === undefined ? {} : { longestTransactionMs: longestTransaction * 1_000 }
        return writePlan(session, out, session.migrator.plan('retire', { kek, ...longest }))
      }),
    )
  plan
    .command('shred')
    .description('make data unreadable for ever by destroying its keys')
    .option('--tenant <id>', 'the tenant; none in tenancy single')
    .option('--keyspace <name>', 'only this keyspace: a data subject, a data class')
    .option('--kek <id>', 'only this key, which was retired before')
    .option('--destroy-after <days>', 'days in which it can be cancelled', days)
    .requiredOption('--out <file>', 'where the plan goes')
    .addHelpText(
      'after',
      examples('fieldseal plan shred --tenant clinic-7 --keyspace subject:patient:42 --out shred.json'),
    )
    .action(
      (options: {
        readonly out: string
        readonly tenant?: string
        readonly keyspace?: string
        readonly kek?: string
        readonly destroyAfter?: number
      }) =>
        act((session) => {
          const { out, tenant, keyspace, kek, destroyAfter } = options
          const asked = {
            ...(tenant === undefined ? {} : { tenant }),
            ...(keyspace === undefined ? {} : { keyspace }),
            ...(kek === undefined ? {} : { kek }),
            ...(destroyAfter === undefined ? {} : { destroyAfterDays: destroyAfter }),
          }
          return writePlan(session, out, session.migrator.plan('shred', asked))
        }),
    )

  program
    .command('apply')
    .description('do what a plan says')
    .argument('<plan>', 'the file that plan wrote')
    .option('--cancel', 'take back a retirement, or a shred before its keys are destroyed')
    .option('--confirm <name>', 'the name that a shred asks for, where nobody can type it')
    .option('--yes', 'do not ask')
    .addHelpText('after', examples('fieldseal apply shred.json', 'fieldseal apply --cancel shred.json'))
    .action((file: string, flags: ApplyFlags) => act((session) => apply(session, file, flags)))
}

async function writePlan({ output, cwd }: Session, out: string, making: Promise<Plan>): Promise<void> {
  const plan = await making
  await writeWhole(path.resolve(cwd, out), `${JSON.stringify(plan, undefined, 2)}\n`, OWNER_ONLY)
  print(output, plan, () => `${planText(plan)}\nwrote ${out}: look at it, then fieldseal apply ${out}`)
}

async function apply({ migrator, output, cwd, signal }: Session, file: string, flags: ApplyFlags): Promise<void> {
  const plan = checkedPlan(await readJson(path.resolve(cwd, file)))
  const { cancel = false } = flags
  say(output, planText(plan))
  const confirm = flags.confirm ?? (await asked(output, plan, flags, signal))
  const applied = await migrator.apply(plan, { cancel, signal, ...(confirm === undefined ? {} : { confirm }) })
  print(output, applied, () => appliedText(applied))
}

/** On a terminal a shred wants its name typed, everything else a yes. */
async function asked(
  { stderr, json }: Output,
  plan: Plan,
  { yes = false, cancel = false }: ApplyFlags,
  signal: AbortSignal,
): Promise<string | undefined> {
  const needsName = plan.confirm !== undefined && !cancel
  if (!process.stdin.isTTY || !stderr.isTTY || json) return undefined
  if (yes && !needsName) return undefined
  const line = createInterface({ input: process.stdin, output: stderr })
  try {
    if (needsName) return await line.question(`type ${plan.confirm} to go on: `, { signal })
    const answer = await line.question('go on? [y/N] ', { signal })
    if (!/^y(es)?$/i.test(answer.trim())) throw new UsageError('not applied')
    return undefined
  } finally {
    line.close()
  }
}

function planText({ verb, what, steps, notes, notBefore }: Plan): string {
  const scope = Object.entries(what).map(([name, value]) => `${name} ${value}`)
  return [
    `${verb}: ${scope.join(', ')}`,
    ...steps.map((step) => `  - ${step}`),
    ...(notBefore === undefined ? [] : [`  not before ${notBefore}`]),
    ...notes.map((note) => `  note: ${note}`),
  ].join('\n')
}

function appliedText(applied: Applied): string {
  if ('report' in applied) {
    const { report, signature } = applied
    return [
      `shred of ${report.keyspace === 'all' ? report.tenant : report.keyspace}: ${report.state}`,
      ...(report.state === 'pending'
        ? [`the keys can be destroyed from ${report.destroyAt} on: apply it again then`]
        : []),
      ...report.rows.map(({ model, rows }) => `${rows} rows of ${model}`),
      `tokens cleared: ${report.tokensCleared}`,
      ...report.remains.map((one) => `remains: ${one}`),
      signature === 'unsigned' ? 'this report is unsigned: configure signingKey' : 'this report is signed (--json)',
    ].join('\n')
  }
  if (applied.verb === 'retire')
    return applied.cancelled ? `${applied.kekId} is decrypt-only again` : `${applied.kekId} is retired`
  return `${applied.rewritten} keys rewritten, ${applied.unchanged} were right; ${applied.wrapsAdded} wraps added, ${applied.wrapsDropped} dropped; no row was written`
}
