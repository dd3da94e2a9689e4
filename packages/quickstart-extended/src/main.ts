import path from 'node:path'
import { parseArgs } from 'node:util'
import { openLocalDesk, run } from '@fieldseal/quickstart'
import { newMongoDatabase, startMongo } from '@fieldseal/servers'
import { openMongooseStage } from './mongoose-stage.ts'

const { values } = parseArgs({
  options: { json: { type: 'boolean', default: false }, mongoose: { type: 'boolean', default: false } },
})
const server = await startMongo()
const database = newMongoDatabase(server.uri)
try {
  await run(
    {
      openDesk: async (folder) => openLocalDesk(path.join(folder, 'fieldseal.key')),
      openStage: (registry) => openMongooseStage(database.uri, registry),
    },
    { json: values.json, keep: undefined },
  )
} finally {
  await database.drop()
  await server.stop()
}
