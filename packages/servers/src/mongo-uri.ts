/** The parts of a connection string that we change; several hosts may stand in it, so it is no URL. */
interface MongoUri {
  readonly scheme: string
  readonly credentials: string
  readonly hosts: string
  readonly database: string
  readonly options: URLSearchParams
}

function parse(uri: string): MongoUri {
  const match = /^(mongodb(?:\+srv)?):\/\/(?:([^/?]*)@)?([^/?@]+)(?:\/([^?]*))?(?:\?(.*))?$/.exec(uri)
  // Not quoted: it may hold a password.
  if (!match) throw new Error('not a MongoDB connection string')
  const [, scheme = '', credentials = '', hosts = '', database = '', options = ''] = match
  return { scheme, credentials, hosts, database, options: new URLSearchParams(options) }
}

function format({ scheme, credentials, hosts, database, options }: MongoUri): string {
  const query = options.size > 0 ? `?${options.toString()}` : ''
  return `${scheme}://${credentials === '' ? '' : `${credentials}@`}${hosts}/${database}${query}`
}

/** The same server and user, with another database to start with. */
export function withDatabase(uri: string, database: string): string {
  const parts = parse(uri)
  // Users are looked up in the database of the connection string unless it says otherwise.
  const mustSay = parts.credentials !== '' && !parts.options.has('authSource') && parts.scheme === 'mongodb'
  if (mustSay) parts.options.set('authSource', parts.database === '' ? 'admin' : parts.database)
  return format({ ...parts, database })
}

/** The one host of a connection string, as `host:port`. @throws Error when it has several, or a service record */
export function hostOf(uri: string): string {
  const { scheme, hosts } = parse(uri)
  if (scheme !== 'mongodb' || hosts.includes(',')) throw new Error('the connection string must name one host')
  return hosts.includes(':') ? hosts : `${hosts}:27017`
}

/** The same, with another host; the driver then asks that host only, not the members it names. */
export function withHost(uri: string, host: string): string {
  const parts = parse(uri)
  parts.options.delete('replicaSet')
  parts.options.set('directConnection', 'true')
  return format({ ...parts, hosts: host })
}
