import { randomUUID } from 'node:crypto'
import { AwsFailure } from './aws-failure.ts'
import type { AwsPrincipals } from './aws-principals.ts'

/** An answer of STS in the AWS Query protocol. */
export interface StsAnswer {
  readonly status: number
  readonly xml: string
}

const MIN_SECONDS = 900

/**
 * AssumeRole, with the ExternalId that the role's trust policy demands.
 * @see https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
 */
export function assumeRole(principals: AwsPrincipals, caller: string, body: string): StsAnswer {
  const form = new URLSearchParams(body)
  try {
    if (form.get('Action') !== 'AssumeRole') throw new AwsFailure('InvalidAction', 'only AssumeRole is emulated')
    const arn = form.get('RoleArn') ?? ''
    const seconds = Number(form.get('DurationSeconds') ?? 3_600)
    if (!(seconds >= MIN_SECONDS)) throw new AwsFailure('ValidationError', 'durationSeconds is out of range')
    const role = principals.roleOf(arn)
    const isTrusted = role !== undefined && (role.trusts?.(caller) ?? true)
    if (!isTrusted || role.externalId !== (form.get('ExternalId') ?? undefined)) {
      throw new AwsFailure(
        'AccessDenied',
        `User: ${caller} is not authorized to perform: sts:AssumeRole on resource: ${arn}`,
        403,
      )
    }
    const session = principals.issueSession(arn, seconds)
    return {
      status: 200,
      xml: `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><AssumedRoleUser><Arn>${arn}/${form.get('RoleSessionName')}</Arn><AssumedRoleId>AROA:${form.get('RoleSessionName')}</AssumedRoleId></AssumedRoleUser><Credentials><AccessKeyId>${session.accessKeyId}</AccessKeyId><SecretAccessKey>${session.secretAccessKey}</SecretAccessKey><SessionToken>${session.sessionToken}</SessionToken><Expiration>${session.expiresAt.toISOString()}</Expiration></Credentials></AssumeRoleResult><ResponseMetadata><RequestId>${randomUUID()}</RequestId></ResponseMetadata></AssumeRoleResponse>`,
    }
  } catch (error) {
    if (!(error instanceof AwsFailure)) throw error
    return {
      status: error.status,
      xml: `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>${error.type}</Code><Message>${error.message}</Message></Error><RequestId>${randomUUID()}</RequestId></ErrorResponse>`,
    }
  }
}
