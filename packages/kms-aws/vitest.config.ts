export { withCloudSdks as default } from '@fieldseal/config/vitest'
