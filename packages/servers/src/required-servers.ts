/** Whether `REQUIRE_SERVERS` (a comma-separated list, set in CI) turns a missing server into a failure. */
export function isRequired(server: 'postgres' | 'mongo'): boolean {
  const list = process.env['REQUIRE_SERVERS'] ?? ''
  return list.split(',').some((name) => name.trim() === server)
}
