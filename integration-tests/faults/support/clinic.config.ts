import { startClinic, type Deployed } from './clinic.ts'

/** What the test has deployed, as every process of the command line finds it. */
export default async () => {
  const deployed = JSON.parse(process.env['DEPLOYED'] ?? '{}') as Deployed
  return (await startClinic({ ...deployed, name: 'verb' })).config
}
