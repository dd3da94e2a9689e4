export { withMongo as default } from '@fieldseal/config/vitest'
