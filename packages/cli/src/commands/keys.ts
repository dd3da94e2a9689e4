import { readFile } from 'node:fs/promises'
import path from 'node:path'
import type { Command } from 'commander'
import { type Fieldseal, isFieldsealError } from '@fieldseal/core'
import { statusHtml, statusText } from '@fieldseal/migrate'
import { EXIT, UsageError } from '../exit-codes.ts'
import { findingsText, print, rotationText, say } from '../output.ts'
import { collect, wholeNumber } from '../options.ts'
import type { Session } from '../session.ts'
import { OWNER_ONLY, writeWhole } from '../write-whole.ts'
import { type Act, examples } from './rows.ts'

interface KeyOptions {
  readonly tenant?: string
  readonly keyspace?: string
  readonly due?: boolean
  readonly dryRun?: boolean
}

/** Commands that look at keys and tables, and those that make or rotate keys. */
export function addKeyCommands(program: Command, act: Act): void {
  program
    .command('status')
    .description('where keys and rows stand: rows per key, fields, tokens, crypto-period')
    .option('--tenant <id>', 'only this tenant')
    .option('--model <id>', 'only this model')
    .option('--html <file>', 'write a report that can be opened offline')
    .option('--sample-rows <n>', 'rows of each model that are looked at one by one', wholeNumber)
    .addHelpText('after', examples('fieldseal status --tenant clinic-7 --html report.html', 'fieldseal status --json'))
    .action((options: KeyOptions & { readonly model?: string; readonly html?: string; readonly sampleRows?: number }) =>
      act(async ({ migrator, output, cwd }) => {
        const { tenant, model, html, sampleRows } = options
        const status = await migrator.status({
          ...(tenant === undefined ? {} : { tenant }),
          ...(model === undefined ? {} : { model }),
          ...(sampleRows === undefined ? {} : { sampleRows }),
        })
        if (html !== undefined) {
          await writeWhole(path.resolve(cwd, html), statusHtml(status), OWNER_ONLY)
          say(output, `wrote ${html}`)
        }
        print(output, status, () => statusText(status))
      }),
    )

  program
    .command('doctor')
    .description('what is wrong with tables, keys, CMKs and clock, or will be')
    .option('--tenant <id>', 'only the keys of this tenant')
    .addHelpText('after', examples('fieldseal doctor', 'fieldseal doctor --tenant clinic-7 --json'))
    .action(({ tenant }: KeyOptions) =>
      act(async ({ migrator, output }) => {
        const findings = await migrator.doctor(tenant === undefined ? {} : { tenant })
        print(output, findings, () => findingsText(findings))
        return findings.length > 0 ? EXIT.remains : EXIT.done
      }),
    )

  program
    .command('lock')
    .description('write the ids that stored data depends on, or compare them with the committed ones')
    .option('--check', 'compare, for CI: exits 3 when something has changed')
    .option('--file <file>', 'where the lock stands', 'fieldseal.lock.json')
    .addHelpText('after', examples('fieldseal lock', 'fieldseal lock --check'))
    .action(({ check, file }: { readonly check?: boolean; readonly file: string }) =>
      act((session) => lock(session, path.resolve(session.cwd, file), check === true)),
    )

  for (const verb of ['activate', 'prepare'] as const)
    program
      .command(verb)
      .description(
        verb === 'activate'
          ? 'have the CMKs of a new tenant prove themselves, then make its keys'
          : 'make the keys of a tenant',
      )
      .option('--tenant <id>', 'the tenant; none in tenancy single')
      .option('--keyspace <name>', 'a further keyspace; may be repeated', collect)
      .addHelpText('after', examples(`fieldseal ${verb} --tenant clinic-7`))
      .action(({ tenant, keyspace = [] }: { readonly tenant?: string; readonly keyspace?: readonly string[] }) =>
        act(async ({ config, output }) => {
          const application = config.fieldseal as Fieldseal<'multi'> // in tenancy `single` no tenant is given
          const args = [...(tenant === undefined ? [] : [tenant]), { keyspaces: keyspace }] as [string, object]
          await application[verb](...args).catch((error: unknown) => {
            if (tenant !== undefined || !isFieldsealError(error) || error.details.field !== 'tenant') throw error
            throw new UsageError(`${verb}: name the tenant with --tenant`)
          })
          print(output, { verb, tenant }, () => `${verb}: done`)
        }),
      )

  const rotate = program.command('rotate').description('rotate a KEK or a CMK')
  rotate
    .command('kek')
    .description('a new KEK for all that is written from now on')
    .option('--tenant <id>', 'the tenant; none in tenancy single')
    .option('--keyspace <name>', 'the keyspace', undefined)
    .option('--due', 'all that the policy says are due')
    .option('--dry-run', 'tell what is due, rotate nothing')
    .addHelpText('after', examples('fieldseal rotate kek --tenant clinic-7', 'fieldseal rotate kek --due'))
    .action((options: KeyOptions) =>
      act(async ({ migrator, output }) => {
        const done = await migrator.rotateKek(options)
        print(output, done, () => rotationText(done))
      }),
    )
  rotate
    .command('cmk')
    .description('wrap the KEKs of a tenant by the newest version of its CMKs; no row is written')
    .option('--tenant <id>', 'the tenant; none in tenancy single')
    .addHelpText('after', examples('fieldseal rotate cmk --tenant clinic-7'))
    .action(({ tenant }: KeyOptions) =>
      act(async ({ migrator, output }) => {
        const done = await migrator.rotateCmk(tenant === undefined ? {} : { tenant })
        print(output, done, () => `${done.rewritten} keys rewrapped, ${done.unchanged} were of the newest version`)
      }),
    )
}

async function lock({ migrator, output }: Session, file: string, check: boolean): Promise<number> {
  if (!check) {
    await writeWhole(file, `${JSON.stringify(migrator.lock(), undefined, 2)}\n`)
    print(output, { verb: 'lock', file }, () => `wrote ${file}: commit it`)
    return EXIT.done
  }
  const findings = migrator.checkLock(await readJson(file))
  print(output, findings, () => findingsText(findings))
  return findings.length > 0 ? EXIT.remains : EXIT.done
}

/** @throws UsageError for what cannot be read or is no JSON */
export async function readJson(file: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as unknown
  } catch (error) {
    const gone = error instanceof Error && 'code' in error && error.code === 'ENOENT'
    const why = error instanceof SyntaxError ? 'it is no JSON' : gone ? 'there is no such file' : 'it cannot be read'
    throw new UsageError(`${file}: ${why}`)
  }
}
