#!/usr/bin/env node
import { parseArgs } from 'node:util'
import { readKeyFile } from './key-file.ts'
import { changeCmk, createKeyFile } from './manage-key-file.ts'

const HELP = `fieldseal-local-key: CMKs in a key file, for development, tests and air-gapped machines

  create FILE [NAME...]             a new key file (mode 0600) with CMKs; NAME defaults to "default"
  add FILE NAME                     one more CMK
  rotate FILE NAME                  a new version; older ones still unwrap
  disable | enable FILE NAME        running processes follow at their next call
  schedule-deletion FILE NAME --days 7
  cancel-deletion FILE NAME         the CMK is disabled then
  destroy FILE NAME                 at once and for ever: all data under it is lost
  list FILE                         names, states and versions; never a key

Examples:
  fieldseal-local-key create fieldseal.key
  fieldseal-local-key create fieldseal.key clinic-a clinic-b
  fieldseal-local-key disable fieldseal.key clinic-b

Exit codes: 0 done, 1 the key file does not allow it, 2 usage
`

process.exitCode = main(process.argv.slice(2))

function main(args: readonly string[]): number {
  let parsed
  try {
    parsed = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { help: { type: 'boolean', short: 'h' }, days: { type: 'string' } },
    })
  } catch (error) {
    return usage(error instanceof Error ? error.message : 'unknown option')
  }
  const [command, file, ...names] = parsed.positionals
  if (parsed.values.help === true || command === undefined) {
    process.stdout.write(HELP)
    return parsed.values.help === true ? 0 : 2
  }
  if (file === undefined) return usage(`${command} needs a FILE`)
  try {
    return run(command, file, names, parsed.values.days)
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : 'failed'}\n`)
    return 1
  }
}

function run(command: string, file: string, names: readonly string[], days: string | undefined): number {
  if (command === 'create') {
    createKeyFile(file, names.length === 0 ? ['default'] : names)
    process.stdout.write(`created ${file}\n`)
    return 0
  }
  if (command === 'list') {
    for (const [name, { state, versions }] of readKeyFile(file).cmks)
      process.stdout.write(`${name}\t${state}\tversions ${versions.length}\n`)
    return 0
  }
  const [name, ...others] = names
  if (name === undefined || others.length > 0) return usage(`${command} needs one NAME`)
  switch (command) {
    case 'add':
    case 'rotate':
    case 'disable':
    case 'enable':
    case 'cancel-deletion':
    case 'destroy':
      changeCmk(file, name, command)
      break
    case 'schedule-deletion':
      if (days === undefined || !/^\d+$/.test(days)) return usage('schedule-deletion needs --days N')
      changeCmk(file, name, { deleteInDays: Number(days) })
      break
    default:
      return usage(`unknown command ${command}`)
  }
  process.stdout.write(`${command}: ${name}\n`)
  return 0
}

function usage(problem: string): number {
  process.stderr.write(`${problem}\n\n${HELP}`)
  return 2
}
