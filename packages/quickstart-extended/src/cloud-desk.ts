import { startAwsKms, startGcpKms } from '@fieldseal/kms-emulators'
import { awsKms } from '@fieldseal/kms-aws'
import { gcpKms } from '@fieldseal/kms-gcp'
import type { CmkName, KeyDesk } from '@fieldseal/quickstart'

export type Cloud = 'aws' | 'gcp'

/**
 * CMKs in emulators of both clouds, through the vendors' own clients. Clinic A begins in one cloud and moves to the
 * other; clinic B stays.
 */
export async function openCloudDesk(home: Cloud): Promise<KeyDesk> {
  process.env['METADATA_SERVER_DETECTION'] ??= 'none' // the emulator needs no credentials, so nobody has to look for some
  const [aws, gcp] = [await startAwsKms(), await startGcpKms()]
  const kms = {
    aws: awsKms({ endpoint: aws.endpoint, credentials: aws.credentials() }),
    gcp: gcpKms({ clientOptions: gcp.clientOptions() }),
  }
  const away: Cloud = home === 'aws' ? 'gcp' : 'aws'
  const placed: Record<CmkName, { readonly cloud: Cloud; readonly uri: string }> = {
    'clinic-a': { cloud: home, uri: create(home) },
    'clinic-a-new': { cloud: away, uri: create(away) },
    'clinic-b': { cloud: home, uri: create(home) },
  }
  function create(cloud: Cloud): string {
    return cloud === 'aws' ? aws.createKey() : gcp.createKey()
  }
  return {
    cmk(name) {
      const { cloud, uri } = placed[name]
      return kms[cloud].cmk(uri, { credentialScope: name })
    },
    async disable(name) {
      const { cloud, uri } = placed[name]
      if (cloud === 'aws') aws.disable(uri)
      else gcp.disable(uri)
    },
    async close() {
      await Promise.all([kms.aws.close?.(), kms.gcp.close?.()])
      await Promise.all([aws.stop(), gcp.stop()])
    },
  }
}
