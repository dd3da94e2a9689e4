import { valueAt, type Doc } from '../bson/documents.ts'

/** The leaf that a document has at a path now, as a condition that it is still there, byte by byte. */
export function isStill(document: Doc, path: string): unknown {
  const leaf = valueAt(document, path)
  return leaf === undefined ? { $exists: false } : { $eq: leaf }
}
