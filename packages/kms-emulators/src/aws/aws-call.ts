import type { LoggedCall } from '../shared/calls.ts'
import { AwsFailure, validation } from './aws-failure.ts'

/** A request or an answer in JSON 1.1: bytes are base64 text, instants are seconds. */
export type JsonAnswer = Readonly<Record<string, unknown>>

export interface AwsCall {
  readonly operation: string
  readonly principal: string
  /** From the credential scope of the signature. */
  readonly region: string
  readonly input: JsonAnswer
}

export interface AwsAnswer {
  readonly output: JsonAnswer
  readonly logged: Pick<LoggedCall, 'key' | 'context' | 'keyVersion'>
}

export function denied(principal: string, operation: string, arn: string): AwsFailure {
  const text = `User: ${principal} is not authorized to perform: kms:${operation} on resource: ${arn}`
  return new AwsFailure('AccessDeniedException', text)
}

export function textOf(value: unknown, name: string): string {
  if (typeof value !== 'string' || value.length < 1 || value.length > 2_048)
    throw validation(`Value at '${name}' failed to satisfy constraint`)
  return value
}
