import 'reflect-metadata'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { keep } from './keep.ts'
import { openLocalDesk } from './local-desk.ts'
import { run } from './run.ts'
import { openTypeormStage } from './typeorm-stage.ts'

const HELP = `Fieldseal quickstart: two clinics with keys of their own.

  npm run quickstart                       TypeORM, PostgreSQL in this process, CMKs in a key file
  npm run quickstart -- --mongoose         Mongoose, on the best MongoDB-compatible server that the machine offers
  npm run quickstart -- --kms aws          CMKs in emulators of AWS KMS and Google Cloud KMS; clinic A moves from the one to the other (or gcp)
  npm run quickstart -- --json             one JSON object on stdout, all else on stderr
  npm run quickstart -- --keep DIR         leaves tables.sql, fieldseal.key and known.json in DIR (TypeORM only)
`

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    keep: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
})
if (values.help) process.stdout.write(HELP)
else {
  const keyFile = (folder: string) => path.join(folder, 'fieldseal.key')
  await run(
    {
      openDesk: async (folder) => openLocalDesk(keyFile(folder)),
      openStage: openTypeormStage,
      keep: (folder, { dataSource }, patients) => keep(folder, dataSource, keyFile(folder), patients),
    },
    { json: values.json, keep: values.keep },
  )
}
