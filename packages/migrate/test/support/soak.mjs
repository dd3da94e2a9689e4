// Two migrators and eight writers on the same rows for a minute: `pnpm --filter @fieldseal/migrate soak`.
import { spawnSync } from 'node:child_process'

const { status } = spawnSync('npx', ['vitest', 'run', 'test/postgres.test.ts'], {
  stdio: 'inherit',
  shell: process.platform === 'win32',
  env: { ...process.env, FIELDSEAL_SOAK_MS: process.env.FIELDSEAL_SOAK_MS ?? '60000' },
})
process.exitCode = status ?? 1
