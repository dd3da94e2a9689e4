import { envelopeToText, type Envelope } from '@fieldseal/core/adapter'
import type { Storage } from '../encrypted-column/annotation.ts'

/** An envelope as its column stores it. */
export function storedForm(envelope: Envelope, storage: Storage): string | Buffer {
  return storage === 'text'
    ? envelopeToText(envelope)
    : Buffer.from(envelope.buffer, envelope.byteOffset, envelope.byteLength)
}
