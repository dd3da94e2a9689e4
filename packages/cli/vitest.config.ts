export { withPostgres as default } from '@fieldseal/config/vitest'
