import { existsSync } from 'node:fs'
import path from 'node:path'
import { defineConfig, mergeConfig } from 'vitest/config'

// Tests run from the sources of every workspace package, so nothing has to be built first.
const conditions = ['@fieldseal/source', 'module', 'node', 'development|production']

const settings = defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    include: ['test/**/*.test.{ts,mjs}'],
    // A package whose tests are not written yet has no test folder.
    passWithNoTests: !existsSync('test'),
    testTimeout: 20_000,
    hookTimeout: 60_000,
  },
})

export default settings

/** The same, with one PostgreSQL for the run: see `@fieldseal/servers/vitest`. */
export const withPostgres = mergeConfig(settings, {
  test: { globalSetup: [path.join(import.meta.dirname, '../servers/vitest/setup.ts')] },
})
