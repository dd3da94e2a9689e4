export { PgliteStream } from './pglite-stream.ts'
