export { startPostgres, type PostgresCapabilities, type PostgresRung, type PostgresServer } from './start-postgres.ts'
export { createDatabase, type Database } from './database.ts'
export { isRequired } from './required-servers.ts'
