import 'reflect-metadata'
import path from 'node:path'
import { openLocalDesk, openTypeormStage } from '@fieldseal/quickstart'
import { hasMongo, useMongoDatabase } from '@fieldseal/servers/vitest'
import { describe, it } from 'vitest'
import { rehearse } from '../../quickstart/test/rehearse.ts'
import { openCloudDesk } from '../src/cloud-desk.ts'
import { openMongooseStage } from '../src/mongoose-stage.ts'

describe.runIf(hasMongo())('the story on Mongoose', () => {
  const database = useMongoDatabase()

  it('measures what it promises, and would count a plaintext on the wire', { timeout: 60_000 }, () =>
    rehearse(
      (folder) => openLocalDesk(path.join(folder, 'fieldseal.key')),
      (registry) => openMongooseStage(database.uri, registry),
    ),
  )
})

describe('the story with CMKs in emulated clouds', () => {
  it.each(['aws', 'gcp'] as const)('measures what it promises, with the keys in %s', { timeout: 60_000 }, (cloud) =>
    rehearse(() => openCloudDesk(cloud), openTypeormStage),
  )
})
