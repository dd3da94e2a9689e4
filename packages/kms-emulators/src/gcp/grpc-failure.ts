import { grpc } from 'google-gax'

export interface Violation {
  readonly type: string
  readonly subject: string
  readonly description?: string
}

/** An answer of Google's that is an error: a status with details in `grpc-status-details-bin`, as their client reads it. */
export class GrpcFailure extends Error {
  readonly code: number
  readonly metadata: grpc.Metadata

  constructor(
    code: number,
    message: string,
    { violations = [], reason }: { readonly violations?: readonly Violation[]; readonly reason?: string } = {},
  ) {
    super(message)
    this.code = code
    this.metadata = new grpc.Metadata()
    const details = [
      ...(violations.length === 0 ? [] : [any('google.rpc.PreconditionFailure', preconditionFailure(violations))]),
      ...(reason === undefined ? [] : [any('google.rpc.ErrorInfo', errorInfo(reason))]),
    ]
    if (details.length > 0) {
      const status = Buffer.concat([
        varintField(1, code),
        bytesField(2, Buffer.from(message)),
        ...details.map((detail) => bytesField(3, detail)),
      ])
      this.metadata.set('grpc-status-details-bin', status)
    }
  }
}

// google/rpc/status.proto and error_details.proto, encoded by hand: a few strings behind their tags and lengths.

function preconditionFailure(violations: readonly Violation[]): Buffer {
  return Buffer.concat(
    violations.map(({ type, subject, description = '' }) =>
      bytesField(1, Buffer.concat([text(1, type), text(2, subject), text(3, description)])),
    ),
  )
}

function errorInfo(reason: string): Buffer {
  return Buffer.concat([text(1, reason), text(2, 'cloudkms.googleapis.com')])
}

function any(type: string, value: Buffer): Buffer {
  return Buffer.concat([text(1, `type.googleapis.com/${type}`), bytesField(2, value)])
}

function text(field: number, value: string): Buffer {
  return bytesField(field, Buffer.from(value))
}

function bytesField(field: number, value: Uint8Array): Buffer {
  return Buffer.concat([Buffer.of((field << 3) | 2), varint(value.length), value])
}

function varintField(field: number, value: number): Buffer {
  return Buffer.concat([Buffer.of(field << 3), varint(value)])
}

function varint(value: number): Buffer {
  const bytes: number[] = []
  for (let rest = value; ; rest >>>= 7) {
    if (rest < 0x80) return Buffer.from([...bytes, rest])
    bytes.push((rest & 0x7f) | 0x80)
  }
}
