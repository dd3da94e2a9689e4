/** For `fieldseal.config.ts`. */
export { defineConfig, type FieldsealConfig } from './define-config.ts'
