// Writes docs/spec/vectors anew: node packages/core/test/vectors/generate.ts
import { mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { vectorFiles } from './files.ts'
import { VECTORS } from './vector-file.ts'

mkdirSync(VECTORS, { recursive: true })
for (const [name, text] of vectorFiles()) writeFileSync(path.join(VECTORS, name), text)
