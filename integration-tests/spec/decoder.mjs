// A decoder of format v1, written from docs/spec/envelope-v1.md alone: node:crypto, nothing of the project.
//   node integration-tests/spec/decoder.mjs check DIR
import { pathToFileURL } from 'node:url'
import { check } from './check.mjs'

export { indexKeyOf, NORMALISERS, tokenOf } from './blind-index.mjs'
export { check } from './check.mjs'
export { commitmentOf, openValue, parseEnvelope, unwrapDek, valueFacts, wrapAad, wrapKeyOf } from './envelope.mjs'
export { localAad, readKeyFile, unwrapLocalBlob, uriOf } from './local-kms.mjs'
export { checkContext, contextBytes, fieldIdOf, isKeyspace, isTenant, kmsRowOf, rowIdOf } from './names.mjs'
export { expand, hmac, lp, Refused, sha256 } from './primitives.mjs'
export { readRecord } from './record-json.mjs'
export {
  columnsOf,
  indexFacts,
  indexRecordMac,
  kekFacts,
  kekRecordMac,
  readIndexRecord,
  readKek,
  subjectAad,
} from './records.mjs'
export { readTables } from './sql.mjs'
export { decodeValue, TAGS, unpad } from './values.mjs'

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [command, dir] = process.argv.slice(2)
  if (command === 'check' && dir !== undefined) {
    try {
      const counts = check(dir)
      process.stdout.write(`${JSON.stringify(counts)}\n`)
      process.stderr.write(`${counts.values} values and ${counts.nulls} nulls checked: each is what known.json says\n`)
    } catch (error) {
      process.stderr.write(`${error.message}\n`)
      process.exitCode = 1
    }
  } else {
    process.stderr.write('node decoder.mjs check DIR\n')
    process.exitCode = 2
  }
}
