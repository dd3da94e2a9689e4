import { deserialize, onDemand, serialize, type Document } from 'bson'

/** One field of a document, still encoded: a command passes through us without a change of type or order. */
export interface Element {
  readonly name: string
  /** Type, name and value, as they stand in the document. */
  readonly bytes: Buffer
}

const DOCUMENT_HEAD_BYTES = 4

/** The fields of a document, in order. */
export function elementsOf(document: Buffer): Element[] {
  return Array.from(onDemand.parseToElements(document), ([, nameAt, nameBytes, valueAt, valueBytes]) => ({
    name: document.toString('utf8', nameAt, nameAt + nameBytes),
    bytes: document.subarray(nameAt - 1, valueAt + valueBytes),
  }))
}

/** Puts encoded fields together again. */
export function documentOf(elements: readonly Buffer[]): Buffer {
  const length = elements.reduce((sum, element) => sum + element.length, DOCUMENT_HEAD_BYTES + 1)
  const head = Buffer.alloc(DOCUMENT_HEAD_BYTES)
  head.writeInt32LE(length)
  return Buffer.concat([head, ...elements, Buffer.of(0)])
}

/** An encoded field that holds an array of encoded documents. */
export function arrayElement(name: string, documents: readonly Buffer[]): Buffer {
  const [TYPE_DOCUMENT, TYPE_ARRAY] = [3, 4]
  const items = documents.map((document, index) => Buffer.concat([Buffer.of(TYPE_DOCUMENT), cString(index), document]))
  return Buffer.concat([Buffer.of(TYPE_ARRAY), cString(name), documentOf(items)])
}

/** A field's value as JavaScript: int64 as bigint, binary as `Binary`. */
export function valueOf(element: Element): unknown {
  return decode(documentOf([element.bytes]))[element.name]
}

export function decode(document: Buffer): Document {
  return deserialize(document, { useBigInt64: true, promoteBuffers: false })
}

/** A document with every type as it is stored, to be encoded again without a change. */
export function decodeExactly(document: Buffer): Document {
  return deserialize(document, { promoteValues: false, bsonRegExp: true })
}

export function encode(document: Document): Buffer {
  return Buffer.from(serialize(document))
}

function cString(text: string | number): Buffer {
  return Buffer.from(`${text}\0`)
}
