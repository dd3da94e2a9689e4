import { withPostgres } from '@fieldseal/config/vitest'
import { mergeConfig } from 'vitest/config'

const config = mergeConfig(withPostgres, {})
// One folder per subject instead of `test/`.
config['test'].include = ['*/**/*.test.{ts,mjs}']
config['test'].passWithNoTests = false
export default config
