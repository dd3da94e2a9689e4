export { default } from '@fieldseal/config/vitest'
