import type { ControlState } from '../shared/control.ts'
import { AwsFailure } from './aws-failure.ts'
import type { AwsKey, AwsKeys } from './aws-keys.ts'
import { type AwsAnswer, type AwsCall, denied, type JsonAnswer, textOf } from './aws-call.ts'

/**
 * DescribeKey, and the control plane as far as development needs it with AWS's own tools.
 * @throws AwsFailure UnknownOperationException for what is not emulated
 */
export function manage(keys: AwsKeys, control: ControlState<JsonAnswer>, call: AwsCall): AwsAnswer {
  const { operation, principal, region, input } = call
  const keyName = (member = 'KeyId') => textOf(input[member], member)

  /** The key of a call that may be made. */
  const allowed = (name = keyName()): AwsKey => {
    const key = keys.find(name, region)
    const arn = keys.arnOf(key, region)
    if (!control.allowed({ operation, principal, key: arn })) throw denied(principal, operation, arn)
    return key
  }
  const done = (key: AwsKey, output: JsonAnswer = {}): AwsAnswer => ({
    output,
    logged: { key: keys.arnOf(key, region) },
  })

  switch (operation) {
    case 'DescribeKey': {
      const key = allowed()
      return done(key, { KeyMetadata: metadata(keys, key, region) })
    }
    case 'CreateKey': {
      const key = keys.find(
        keys.createKey({ region, ...(input['MultiRegion'] === true ? { replicas: [] } : {}) }),
        region,
      )
      return done(key, { KeyMetadata: metadata(keys, key, region) })
    }
    case 'CreateAlias':
    case 'UpdateAlias': {
      const key = allowed(keyName('TargetKeyId'))
      keys.alias(textOf(input['AliasName'], 'aliasName'), key.id)
      return done(key)
    }
    case 'DisableKey': {
      const key = allowed()
      keys.disable(key.id)
      return done(key)
    }
    case 'EnableKey': {
      const key = allowed()
      keys.enable(key.id)
      return done(key)
    }
    case 'ScheduleKeyDeletion': {
      const key = allowed()
      const days = input['PendingWindowInDays'] ?? 30
      if (typeof days !== 'number' || days < 7 || days > 30)
        throw new AwsFailure('ValidationException', "Value at 'pendingWindowInDays' failed to satisfy constraint")
      keys.scheduleDeletion(key.id, { days })
      return done(key, {
        KeyId: keys.arnOf(key, region),
        DeletionDate: seconds(key.deletesAt),
        KeyState: key.state,
        PendingWindowInDays: days,
      })
    }
    case 'CancelKeyDeletion': {
      const key = allowed()
      key.deletesAt = undefined
      keys.disable(key.id)
      return done(key, { KeyId: keys.arnOf(key, region) })
    }
    case 'RotateKeyOnDemand': {
      const key = allowed()
      keys.rotate(key.id)
      return done(key, { KeyId: keys.arnOf(key, region) })
    }
    default:
      throw new AwsFailure('UnknownOperationException', `${operation} is not emulated`)
  }
}

function metadata(keys: AwsKeys, key: AwsKey, region: string): JsonAnswer {
  const isMultiRegion = key.id.startsWith('mrk-')
  const [primary = region, ...replicas] = key.regions
  const place = (name: string) => ({ Arn: keys.arnOf(key, name), Region: name })
  return {
    AWSAccountId: key.account,
    KeyId: key.id,
    Arn: keys.arnOf(key, region),
    CreationDate: seconds(key.createdAt),
    Enabled: key.state === 'Enabled',
    KeyState: key.state,
    KeyUsage: 'ENCRYPT_DECRYPT',
    KeySpec: 'SYMMETRIC_DEFAULT',
    CustomerMasterKeySpec: 'SYMMETRIC_DEFAULT',
    EncryptionAlgorithms: ['SYMMETRIC_DEFAULT'],
    KeyManager: 'CUSTOMER',
    Origin: key.state === 'PendingImport' ? 'EXTERNAL' : 'AWS_KMS',
    MultiRegion: isMultiRegion,
    ...(isMultiRegion
      ? {
          MultiRegionConfiguration: {
            MultiRegionKeyType: region === primary ? 'PRIMARY' : 'REPLICA',
            PrimaryKey: place(primary),
            ReplicaKeys: replicas.map(place),
          },
        }
      : {}),
    ...(key.deletesAt === undefined ? {} : { DeletionDate: seconds(key.deletesAt) }),
    CurrentKeyMaterialId: key.materials.at(-1)?.id,
  }
}

function seconds(date: Date | undefined): number | undefined {
  return date === undefined ? undefined : date.getTime() / 1_000
}
