import path from 'node:path'
import { parseArgs } from 'node:util'
import { openLocalDesk, openTypeormStage, run, type Production, type Stage } from '@fieldseal/quickstart'
import { newMongoDatabase, startMongo } from '@fieldseal/servers'
import { openCloudDesk, type Cloud } from './cloud-desk.ts'
import { openMongooseStage } from './mongoose-stage.ts'

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    mongoose: { type: 'boolean', default: false },
    kms: { type: 'string' },
  },
})
if (values.kms !== undefined && values.kms !== 'aws' && values.kms !== 'gcp') {
  process.stderr.write('--kms is aws or gcp\n')
  process.exitCode = 2
} else await main(values.kms, values.mongoose)

async function main(cloud: Cloud | undefined, onMongoose: boolean): Promise<void> {
  const openDesk: Production<Stage>['openDesk'] = async (folder) =>
    cloud === undefined ? openLocalDesk(path.join(folder, 'fieldseal.key')) : openCloudDesk(cloud)
  const options = { json: values.json, keep: undefined }
  if (!onMongoose) return run({ openDesk, openStage: openTypeormStage }, options)
  const server = await startMongo()
  const database = newMongoDatabase(server.uri)
  try {
    await run({ openDesk, openStage: (registry) => openMongooseStage(database.uri, registry) }, options)
  } finally {
    await database.drop()
    await server.stop()
  }
}
