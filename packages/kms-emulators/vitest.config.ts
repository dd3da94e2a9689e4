import settings from '@fieldseal/config/vitest'
import { defineConfig } from 'vitest/config'

// Without the condition `module`: AWS's packages have files for bundlers there, which Node cannot load.
const conditions = ['@fieldseal/source', 'node', 'development|production']

export default defineConfig({
  ...settings,
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    ...settings.test,
    // The SDKs take a second to load; files share them.
    isolate: false,
    // The emulator's own certificate must count, and nobody asks for Google's metadata server.
    env: { GRPC_DEFAULT_SSL_ROOTS_FILE_PATH: '', METADATA_SERVER_DETECTION: 'none' },
  },
})
