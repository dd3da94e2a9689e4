import settings, { withMongo } from '@fieldseal/config/vitest'
import { defineConfig, mergeConfig } from 'vitest/config'

/** The same tests with every major of Mongoose that the peer range names. `vitest run --project 'mongoose 9'`: with one. */
const project = (name: string, mongoose: string) =>
  mergeConfig(settings, { resolve: { alias: [{ find: /^mongoose$/, replacement: mongoose }] }, test: { name } })

// The server is that of the whole run, so both have the same one.
export default mergeConfig(
  withMongo,
  defineConfig({ test: { projects: [project('mongoose 9', 'mongoose'), project('mongoose 8', 'mongoose8')] } }),
)
