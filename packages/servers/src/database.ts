import { randomUUID } from 'node:crypto'
import pg from 'pg'

export interface Database {
  readonly url: string
  /** Creates another one with the same content; nobody may be connected to this one meanwhile. */
  copy(): Promise<Database>
  /** Drops the database, ending connections that are still open to it. */
  drop(): Promise<void>
}

/** Creates an empty database on a server. */
export function createDatabase(serverUrl: string): Promise<Database> {
  return createFrom('template0', serverUrl)
}

async function createFrom(template: string, serverUrl: string): Promise<Database> {
  const name = `fieldseal_${randomUUID().replaceAll('-', '')}`
  await execute(serverUrl, `CREATE DATABASE ${name} TEMPLATE ${template}`)
  const url = new URL(serverUrl)
  url.pathname = `/${name}`
  return {
    url: url.href,
    copy: () => createFrom(name, serverUrl),
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
