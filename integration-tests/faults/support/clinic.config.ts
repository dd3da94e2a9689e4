import { startClinic, type Deployed } from './clinic.ts'

/** What the test has deployed, as every process of the command line finds it. */
export default () => startClinic({ ...(JSON.parse(process.env['DEPLOYED'] ?? '{}') as Deployed), name: 'verb' }).config
