// A decoder of format v1, written from docs/spec/envelope-v1.md alone: node:crypto, nothing of the project.
//   node integration-tests/spec/decoder.mjs check DIR
import { pathToFileURL } from 'node:url'
import { check } from './check.mjs'

export { check } from './check.mjs'
export { commitmentOf, openValue, parseEnvelope, rowIdOf } from './envelope.mjs'
export {
  contextBytes,
  indexKeyOf,
  indexRecordMac,
  kekRecordMac,
  NORMALISERS,
  openKek,
  tokenOf,
  unwrapLocalBlob,
} from './keys.mjs'
export { expand, lp, Refused } from './primitives.mjs'
export { readTables } from './sql.mjs'
export { decodeValue, TAGS, unpad } from './values.mjs'

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [command, dir] = process.argv.slice(2)
  if (command === 'check' && dir !== undefined) {
    try {
      process.stdout.write(`${JSON.stringify(check(dir))}\n`)
    } catch (error) {
      process.stderr.write(`${error.message}\n`)
      process.exitCode = 1
    }
  } else {
    process.stderr.write('node decoder.mjs check DIR\n')
    process.exitCode = 2
  }
}
