import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { kmsConformance } from '@fieldseal/testkit'
import { describe, it } from 'vitest'
import { changeCmk, createKeyFile, localKms } from '../src/index.ts'

kmsConformance({
  describe,
  it,
  async create() {
    const folder = mkdtempSync(path.join(tmpdir(), 'fieldseal-local-'))
    const file = path.join(folder, 'fieldseal.key')
    createKeyFile(file, ['one', 'two'])
    const kms = localKms({ file })
    return {
      cmk: kms.cmk('one'),
      other: kms.cmk('two'),
      rotate: async () => changeCmk(file, 'one', 'rotate'),
      disable: async () => changeCmk(file, 'one', 'disable'),
      enable: async () => changeCmk(file, 'one', 'enable'),
      close: async () => rmSync(folder, { recursive: true }),
    }
  },
})
