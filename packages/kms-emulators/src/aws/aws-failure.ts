/** An answer of AWS that is an error: `__type` and message in JSON 1.1, with the HTTP status that AWS sends. */
export class AwsFailure extends Error {
  readonly type: string
  readonly status: number
  readonly retryAfterSeconds: number | undefined

  constructor(type: string, message: string, status = 400, retryAfterSeconds?: number) {
    super(message)
    this.type = type
    this.status = status
    this.retryAfterSeconds = retryAfterSeconds
  }
}

export function validation(message: string): AwsFailure {
  return new AwsFailure('ValidationException', message)
}
