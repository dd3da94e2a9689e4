import { randomUUID } from 'node:crypto'
import pg from 'pg'

export interface Database {
  readonly url: string
  /** Drops the database, ending connections that are still open to it. */
  drop(): Promise<void>
}

/** Creates an empty database on a server. */
export async function createDatabase(serverUrl: string): Promise<Database> {
  const name = `fieldseal_${randomUUID().replaceAll('-', '')}`
  await execute(serverUrl, `CREATE DATABASE ${name} TEMPLATE template0`)
  const url = new URL(serverUrl)
  url.pathname = `/${name}`
  return {
    url: url.href,
    drop: () => execute(serverUrl, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`),
  }
}

async function execute(url: string, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    await client.query(sql)
  } finally {
    await client.end()
  }
}
