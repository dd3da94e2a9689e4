import { generateKeyPairSync, randomBytes, sign } from 'node:crypto'

/** A certificate of its own for `localhost` and 127.0.0.1, valid for a day. */
export interface SelfSigned {
  /** PEM. Also the CA that a client has to trust. */
  readonly cert: string
  /** PEM. */
  readonly key: string
}

const OID = {
  commonName: '550403',
  ecdsaWithSha256: '2a8648ce3d040302',
  basicConstraints: '551d13',
  subjectAltName: '551d11',
} as const

/** X.509 v3 in DER, by hand: Node makes keys and signatures but no certificates (RFC 5280 §4.1). */
export function selfSigned(): SelfSigned {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const algorithm = seq(oid(OID.ecdsaWithSha256))
  const name = seq(tlv(0x31, seq(oid(OID.commonName), tlv(0x0c, Buffer.from('localhost')))))
  const names = seq(tlv(0x82, Buffer.from('localhost')), tlv(0x87, Buffer.from([127, 0, 0, 1])))
  const extensions = seq(
    seq(oid(OID.basicConstraints), tlv(0x01, Buffer.of(0xff)), tlv(0x04, seq(tlv(0x01, Buffer.of(0xff))))),
    seq(oid(OID.subjectAltName), tlv(0x04, names)),
  )
  const body = seq(
    tlv(0xa0, tlv(0x02, Buffer.of(2))),
    tlv(0x02, Buffer.concat([Buffer.of(1), randomBytes(8)])),
    algorithm,
    name,
    seq(time(Date.now() - 3_600_000), time(Date.now() + 86_400_000)),
    name,
    publicKey.export({ format: 'der', type: 'spki' }),
    tlv(0xa3, extensions),
  )
  const signature = sign('sha256', body, privateKey)
  const der = seq(body, algorithm, tlv(0x03, Buffer.concat([Buffer.of(0), signature])))
  return { cert: pem('CERTIFICATE', der), key: privateKey.export({ format: 'pem', type: 'pkcs8' }).toString() }
}

function tlv(tag: number, ...content: readonly Uint8Array[]): Buffer {
  const value = Buffer.concat(content)
  const length =
    value.length < 0x80
      ? Buffer.of(value.length)
      : value.length < 0x100
        ? Buffer.of(0x81, value.length)
        : Buffer.of(0x82, value.length >> 8, value.length & 0xff)
  return Buffer.concat([Buffer.of(tag), length, value])
}

function seq(...content: readonly Uint8Array[]): Buffer {
  return tlv(0x30, ...content)
}

function oid(hex: string): Buffer {
  return tlv(0x06, Buffer.from(hex, 'hex'))
}

/** UTCTime, `yymmddhhmmssZ`. */
function time(epochMs: number): Buffer {
  return tlv(
    0x17,
    Buffer.from(
      `${new Date(epochMs)
        .toISOString()
        .replace(/[-:T]|\.\d+/g, '')
        .slice(2)}`,
    ),
  )
}

function pem(label: string, der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? []
  return [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ''].join('\n')
}
