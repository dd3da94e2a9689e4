import { FieldsealError } from '@fieldseal/core/kms'

/** How a CMK is named and where it is asked. */
export interface KeyRef {
  /** The key's ARN as it is stored beside wraps; `undefined` for an alias, which is resolved first. */
  readonly canonical: string | undefined
  /** What a request names: the ARN in the Region that is asked, or the alias. */
  readonly address: string
  readonly region: string
}

const ARN = /^(arn:aws[a-z-]*:kms:)([a-z0-9-]+)(:\d{12}:)(key\/[A-Za-z0-9-]{1,64}|alias\/[\w/-]{1,250})$/
const ALIAS = /^alias\/[\w/-]{1,250}$/

/**
 * Reads a CMK's uri: a key ARN, an alias ARN, or `alias/<name>` with a Region.
 * @throws FieldsealError ERR_CONFIG_INVALID
 * @see https://docs.aws.amazon.com/kms/latest/developerguide/concepts.html#key-id
 */
export function parseKeyUri(uri: string, region: string | undefined): KeyRef {
  if (ALIAS.test(uri)) {
    if (region === undefined) throw invalid('an alias without its ARN needs the option region')
    return { canonical: undefined, address: uri, region }
  }
  const [, head = '', arnRegion = '', account = '', name = ''] = ARN.exec(uri) ?? []
  if (name === '') throw invalid('neither a key ARN, nor an alias ARN, nor alias/<name>')
  if (name.startsWith('alias/')) {
    if (region !== undefined && region !== arnRegion) throw invalid('the option region contradicts the ARN')
    return { canonical: undefined, address: uri, region: arnRegion }
  }
  if (region === undefined || region === arnRegion) return { canonical: uri, address: uri, region: arnRegion }
  if (!name.startsWith('key/mrk-'))
    throw invalid('the option region contradicts the ARN: only a multi-Region key has replicas')
  return { canonical: uri, address: head + region + account + name, region }
}

/** Whether an answer is about the key that was asked. The Region of a multi-Region key does not matter. */
export function isSameKey(asked: string, answered: string): boolean {
  return withoutReplica(asked) === withoutReplica(answered)
}

/** A key's ARN, and nothing else. */
export function isKeyArn(text: string | undefined): text is string {
  return text !== undefined && (ARN.exec(text)?.[4]?.startsWith('key/') ?? false)
}

function withoutReplica(arn: string): string {
  return arn.replace(/:kms:[a-z0-9-]+(:\d{12}:key\/mrk-)/, ':kms:$1')
}

function invalid(reason: string): FieldsealError {
  return new FieldsealError('ERR_CONFIG_INVALID', {
    field: 'awsKms.cmk',
    reason,
    hint: 'arn:aws:kms:<region>:<account>:key/<id>',
  })
}
