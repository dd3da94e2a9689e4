import pg from 'pg'

/** What a server is, with the settings that make writes fast or durable. */
export async function describeServer(url: string): Promise<string> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  const settings: string[] = []
  for (const name of ['server_version', 'fsync', 'synchronous_commit']) {
    const { rows } = await client.query<Record<string, string>>(`SHOW ${name}`)
    settings.push(rows[0]?.[name]?.split(' ')[0] ?? '')
  }
  await client.end()
  const [version, fsync, synchronous] = settings
  return `PostgreSQL ${version}, fsync ${fsync}, synchronous_commit ${synchronous}`
}
