import { startDocuments } from './documents.ts'

export default () =>
  startDocuments(JSON.parse(process.env['DEPLOYED'] ?? '{}') as Parameters<typeof startDocuments>[0]).config
