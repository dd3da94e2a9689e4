import { withServers } from '@fieldseal/config/vitest'
import { mergeConfig } from 'vitest/config'

const config = mergeConfig(withServers('postgres', 'mongo'), {})
// One folder per subject instead of `test/`.
config['test'].include = ['*/**/*.test.{ts,mjs}']
config['test'].passWithNoTests = false
// Each concurrent test has processes of its own.
config['test'].maxConcurrency = 3
export default config
