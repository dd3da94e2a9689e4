import { withCloudSdks, withMongo } from '@fieldseal/config/vitest'
import { mergeConfig } from 'vitest/config'

export default mergeConfig(withCloudSdks, withMongo)
