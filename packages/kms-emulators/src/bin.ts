#!/usr/bin/env node
import { parseArgs } from 'node:util'
import { startAwsKms } from './aws/start-aws-kms.ts'
import { startGcpKms } from './gcp/start-gcp-kms.ts'

const HELP = `fieldseal KMS emulators: AWS KMS or Google Cloud KMS on 127.0.0.1, for development and tests

  pnpm --filter @fieldseal/kms-emulators start aws [--port N] [--alias NAME]
  pnpm --filter @fieldseal/kms-emulators start gcp [--port N] [--key NAME]
  pnpm --filter @fieldseal/kms-emulators start help

aws   KMS and STS AssumeRole over HTTP. Prints endpoint, Region, credentials and the ARN of a new key; works with
      the AWS CLI too: aws kms describe-key --endpoint-url http://127.0.0.1:N --key-id alias/dev
gcp   Encrypt, Decrypt, GetCryptoKey and GetCryptoKeyVersion over gRPC without TLS. Prints port and key name.

Options:
  --port N      0 for any free port. Default: 4566 (aws), 4567 (gcp)
  --alias NAME  alias of the new key. Default: alias/dev
  --key NAME    name of the new key. Default: projects/dev/locations/global/keyRings/dev/cryptoKeys/dev

Keys live in memory: they are gone when this ends, and data under them with them. Ctrl-C ends it.
Exit codes: 0 ended, 1 the port is taken, 2 usage
`

process.exitCode = await main(process.argv.slice(2))

async function main(args: readonly string[]): Promise<number> {
  let parsed
  try {
    parsed = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        help: { type: 'boolean', short: 'h' },
        port: { type: 'string' },
        alias: { type: 'string', default: 'alias/dev' },
        key: { type: 'string', default: 'projects/dev/locations/global/keyRings/dev/cryptoKeys/dev' },
      },
    })
  } catch (error) {
    return usage(error instanceof Error ? error.message : 'unknown option')
  }
  const { help, port, alias, key } = parsed.values
  const [cloud, ...rest] = parsed.positionals
  if (help === true || cloud === 'help') {
    process.stdout.write(HELP)
    return 0
  }
  if (rest.length > 0 || (port !== undefined && !/^\d{1,5}$/.test(port))) return usage('start aws or gcp, on a port')
  try {
    if (cloud === 'aws') await aws(Number(port ?? 4_566), alias)
    else if (cloud === 'gcp') await gcp(Number(port ?? 4_567), key)
    else return usage(cloud === undefined ? 'start which: aws or gcp?' : `unknown emulator ${cloud}`)
    return 0
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : 'failed'}\n`)
    return 1
  }
}

async function aws(port: number, alias: string): Promise<void> {
  const emulator = await startAwsKms({ port })
  const arn = emulator.createKey({ alias })
  const { region, credentials } = emulator.clientOptions()
  process.stdout.write(`AWS KMS at ${emulator.endpoint}

AWS_ENDPOINT_URL_KMS=${emulator.endpoint}
AWS_ENDPOINT_URL_STS=${emulator.endpoint}
AWS_REGION=${region}
AWS_ACCESS_KEY_ID=${credentials.accessKeyId}
AWS_SECRET_ACCESS_KEY=${credentials.secretAccessKey}

key ${arn} (${alias})
awsKms().cmk('${arn}')
`)
}

async function gcp(port: number, key: string): Promise<void> {
  const emulator = await startGcpKms({ port })
  emulator.createKey(key)
  process.stdout.write(`Google Cloud KMS at 127.0.0.1:${emulator.port}, without TLS

key ${key}
gcpKms({ clientOptions: { apiEndpoint: '127.0.0.1', port: ${emulator.port}, sslCreds: grpc.credentials.createInsecure() } })
  .cmk('${key}')           // import { grpc } from 'google-gax'
`)
}

function usage(problem: string): number {
  process.stderr.write(`${problem}\n\n${HELP}`)
  return 2
}
