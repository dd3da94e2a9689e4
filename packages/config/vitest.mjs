import { defineConfig } from 'vitest/config'

// Tests run from the sources of every workspace package, so nothing has to be built first.
const conditions = ['@fieldseal/source', 'module', 'node', 'development|production']

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    include: ['test/**/*.test.{ts,mjs}'],
    passWithNoTests: true,
    testTimeout: 20_000,
    hookTimeout: 60_000,
  },
})
