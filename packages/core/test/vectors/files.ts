import { validEnvelopes } from './envelope-vectors.ts'
import { indexesAndTokens } from './index-vectors.ts'
import { invalidEnvelopes } from './invalid-vectors.ts'
import { kekRecords } from './kek-record-vectors.ts'
import { contexts, normalizers, rowIds } from './name-vectors.ts'
import { subjectKeks } from './subject-vectors.ts'
import { type VectorFile, vectorText } from './vector-file.ts'

const FILES: Readonly<Record<string, () => VectorFile>> = {
  'contexts.json': contexts,
  'envelopes-invalid.json': invalidEnvelopes,
  'envelopes-valid.json': validEnvelopes,
  'index-and-tokens.json': indexesAndTokens,
  'kek-records.json': kekRecords,
  'normalizers.json': normalizers,
  'row-ids.json': rowIds,
  'subject-keks.json': subjectKeks,
}

/** Every file of docs/spec/vectors and its text. */
export function vectorFiles(): ReadonlyMap<string, string> {
  return new Map(Object.entries(FILES).map(([name, make]) => [name, vectorText(make())]))
}
