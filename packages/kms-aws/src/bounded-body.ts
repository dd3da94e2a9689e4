/** The longest answer of a KMS: two blobs of 6,144 bytes in base64 and some ARNs. */
const MAX_BODY_BYTES = 65_536

/** Collects a response's body, but no more than an answer of a KMS can have. The SDK itself has no limit. */
export async function collectBounded(body: unknown): Promise<Uint8Array> {
  if (body === undefined) return new Uint8Array(0)
  if (!isByteStream(body)) throw tooLarge('not a stream of bytes')
  const chunks: Uint8Array[] = []
  let length = 0
  // Leaving the loop destroys the stream, and the connection with it.
  for await (const chunk of body) {
    length += chunk.length
    if (length > MAX_BODY_BYTES) throw tooLarge('more than a KMS answers')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

/** Node's streams and those of the web alike. */
function isByteStream(body: unknown): body is AsyncIterable<Uint8Array> {
  return typeof body === 'object' && body !== null && Symbol.asyncIterator in body
}

function tooLarge(message: string): Error {
  return Object.assign(new Error(message), { name: 'ResponseTooLarge' })
}
