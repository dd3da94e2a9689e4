import { existsSync } from 'node:fs'
import path from 'node:path'
import { defineConfig, mergeConfig } from 'vitest/config'

// Tests run from the sources of every workspace package, so nothing has to be built first. Without Vite's condition
// `module`: AWS's packages have files for bundlers there, which Node cannot load.
const conditions = ['@fieldseal/source', 'node', 'development|production']

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
export const withPostgres = withServers('postgres')

/** The same, with one MongoDB, or an engine compatible with it. */
export const withMongo = withServers('mongo')

/** The same, with several servers. */
export function withServers(...servers: readonly ('postgres' | 'mongo')[]) {
  const globalSetup = servers.map((name) => path.join(import.meta.dirname, `../servers/vitest/${name}-setup.ts`))
  return mergeConfig(settings, { test: { globalSetup } })
}

/** The same, for packages that load the SDKs of clouds. */
export const withCloudSdks = mergeConfig(settings, {
  test: {
    // The SDKs take a second to load; files share them.
    isolate: false,
    // An emulator's own certificate must count, and nobody asks for Google's metadata server.
    env: { GRPC_DEFAULT_SSL_ROOTS_FILE_PATH: '', METADATA_SERVER_DETECTION: 'none' },
  },
})
