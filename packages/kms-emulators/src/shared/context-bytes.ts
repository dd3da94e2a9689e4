/**
 * An encryption context as additional data: the number of pairs, then key and value of each behind their lengths
 * (u32, big-endian), sorted by the bytes of the key. Two contexts never share an encoding.
 */
export function contextBytes(context: Readonly<Record<string, string>>): Uint8Array {
  const pairs = Object.entries(context)
    .map(([key, value]) => [Buffer.from(key), Buffer.from(value)] as const)
    .sort(([a], [b]) => Buffer.compare(a, b))
  return Buffer.concat([u32(pairs.length), ...pairs.flat().flatMap((part) => [u32(part.length), part])])
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}
