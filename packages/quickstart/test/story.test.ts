import 'reflect-metadata'
import path from 'node:path'
import { it } from 'vitest'
import { openLocalDesk, openTypeormStage } from '../src/index.ts'
import { rehearse } from './rehearse.ts'

it('measures what it promises, and would count a plaintext on the wire', { timeout: 60_000 }, () =>
  rehearse((folder) => openLocalDesk(path.join(folder, 'fieldseal.key')), openTypeormStage),
)
